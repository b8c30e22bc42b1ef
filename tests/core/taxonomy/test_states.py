import importlib
import pkgutil
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
    assert all(normalise(f" {word} ") == word for word in WORDS), (
        "as it is spelled where it is looked up letter by letter"
    )


@given(st.one_of(st.text(), st.none(), st.integers(), st.lists(st.text())))
def test_an_unknown_word_is_never_final(word):
    if normalise(word) not in WORDS:
        assert group_of(word) is StateGroup.UNKNOWN


# Words of the openai package that name no state of a job: of files, sessions, environments, limits, automations.
NOT_OF_JOBS = set(
    "active budget_reached closed connected degraded disconnected enforcing idle inactive processed ready skipped "
    "suspended unhealthy uploaded validated".split()
)


def literals(annotation):
    if typing.get_origin(annotation) is typing.Literal:
        yield from (word for word in typing.get_args(annotation) if isinstance(word, str))
    else:
        for inner in typing.get_args(annotation):
            yield from literals(inner)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_words_of_the_installed_sdk_are_mapped():
    """Fails when the openai package grows a word that we do not know, in any of its types."""
    import openai.types
    from pydantic import BaseModel

    found = set()
    for module in pkgutil.walk_packages(openai.types.__path__, "openai.types."):
        for model in vars(importlib.import_module(module.name)).values():
            if isinstance(model, type) and issubclass(model, BaseModel) and model.__module__ == module.name:
                fields = (model.model_fields.get(name) for name in ("status", "state"))
                found.update(word for field in fields if field is not None for word in literals(field.annotation))
    assert len(found) >= 30
    assert {word for word in found if group_of(word) is StateGroup.UNKNOWN} <= NOT_OF_JOBS
