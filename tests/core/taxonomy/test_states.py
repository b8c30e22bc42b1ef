import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.taxonomy.rules import (
    GROUP_MEANING,
    STARTED_WORDS,
    STATE_MEANING,
    WORDS,
    State,
    StateGroup,
    group_of,
    normalise,
)  # fmt: skip

# FACTS: every word with which a service of section 1 names a state, as it spells it.
WORDS_OF_SERVICES = {
    "OpenAI responses": "completed failed in_progress cancelled queued incomplete",
    "OpenAI batches": "validating failed in_progress finalizing completed expired cancelling cancelled",
    "OpenAI eval runs": "canceled",
    "Replicate": "starting processing succeeded failed canceled aborted",
    "fal": "IN_QUEUE IN_PROGRESS COMPLETED",
    "RunPod": "IN_QUEUE IN_PROGRESS RUNNING COMPLETED FAILED CANCELLED TIMED_OUT",
    "Together queue": "pending running done failed canceled",
    "OpenRouter video": "pending in_progress completed failed cancelled expired",
    "Mistral": "QUEUED RUNNING SUCCESS FAILED TIMEOUT_EXCEEDED CANCELLATION_REQUESTED CANCELLED",
    "Google": "JOB_STATE_QUEUED JOB_STATE_PENDING JOB_STATE_RUNNING JOB_STATE_SUCCEEDED JOB_STATE_FAILED "
    "JOB_STATE_CANCELLING JOB_STATE_CANCELLED JOB_STATE_PAUSED JOB_STATE_EXPIRED JOB_STATE_UPDATING "
    "JOB_STATE_PARTIALLY_SUCCEEDED",
    "Anthropic": "in_progress canceling",
}


@pytest.mark.parametrize(("service", "word"), [(s, w) for s, words in WORDS_OF_SERVICES.items() for w in words.split()])
def test_every_word_of_every_service_has_a_group(service, word):
    assert group_of(word) is not StateGroup.UNKNOWN, service


@pytest.mark.parametrize(
    ("word", "spelled"),
    [
        (" JOB_STATE_Timed-Out ", "timed_out"),
        ("In Queue", "in_queue"),
        ("CANCELLED", "cancelled"),
        ("", None),
        ("  ", None),
        (None, None),
        (3, None),
        (["completed"], None),
        ({"status": "completed"}, None),
        (True, None),
    ],
)
def test_words_are_spelled_one_way(word, spelled):
    assert normalise(word) == spelled


def test_the_tables_are_whole():
    assert set(GROUP_MEANING) == set(StateGroup)
    assert set(STATE_MEANING) == set(State)
    assert {WORDS[word] for word in STARTED_WORDS} == {StateGroup.IN_PROGRESS}
    assert all(normalise(word) == word for word in WORDS)


@given(st.one_of(st.text(), st.none(), st.integers(), st.lists(st.text())))
def test_an_unknown_word_is_never_final(word):
    if normalise(word) not in WORDS:
        assert group_of(word) is StateGroup.UNKNOWN


def test_the_words_of_the_installed_sdk_are_mapped():
    """Fails when the openai package grows a word that we do not know."""
    from openai.types import Batch, Video
    from openai.types.beta.threads import RunStatus
    from openai.types.fine_tuning import FineTuningJob
    from openai.types.responses import ResponseStatus
    from openai.types.responses.response_output_item import ImageGenerationCall

    found = set(typing.get_args(ResponseStatus)) | set(typing.get_args(RunStatus))
    for model in (Batch, Video, FineTuningJob, ImageGenerationCall):
        found |= set(typing.get_args(model.model_fields["status"].annotation))
    assert len(found) >= 15
    assert {word for word in found if group_of(word) is StateGroup.UNKNOWN} == set()
