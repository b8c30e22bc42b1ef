"""A rewritten journal says what the old one said, but for the rows whose records were dropped."""

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.journal.entries import (
    AttemptEnded,
    Cancelling,
    Cleared,
    Done,
    Header,
    Intent,
    PollAgain,
    RequestsAccepted,
    Started,
    Submitted,
    Unconfirmed,
    frame,
)  # fmt: skip
from batchrun.core.journal.fold import JournaledRow, fold
from batchrun.core.journal.recover import recover
from batchrun.core.journal.rewrite import announcement, entries_of, new_journal, new_output, spans
from batchrun.core.records.record import RecordLine
from batchrun.core.taxonomy.rules import State

HEADER = Header(1, "run", "openai", "https://api.openai.com", "", "f00d", {}, "in.jsonl", 1.0)
FAILED = {"failed", "cancelled", "unconfirmed", "rejected", "expired", "incomplete"}


def record(key, state, *warnings, job_id=None):
    return RecordLine(id="rec", custom_id=key, state=State(state), job_id=job_id, warnings=warnings).to_json() + b"\n"


def ended(key, attempt, job_id=None):
    return AttemptEnded(key, attempt, job_id, "internal_error", "server_error", "unknown", 9.0, 4.0)


def folded(*entries):
    return fold([HEADER.to_line(), Started(7, 1.0).to_line(), *(entry.to_line() for entry in entries)])


def facts(journaled):
    names = [name for name in JournaledRow.__slots__ if name != "submitted_at" or journaled.job_id is not None]
    return {name: getattr(journaled, name) for name in names}


def rewritten(state, output, states=FAILED, keys=None):
    """The folds and outputs of a rewriting, and of the same done again on the new output."""
    order = announcement(state, output, states, keys)
    first = b"".join(new_output(order, output)), list(new_journal(state, order, output))
    again = b"".join(new_output(order, first[0])), list(new_journal(state, order, first[0]))
    assert again == first, "done again on the new output it comes out the same"
    after = fold(first[1])
    assert not after.torn
    assert not after.corrupt
    assert (after.rewrite, after.gen, after.header) == (None, state.gen + 1, state.header)
    assert (after.accepted, after.retries) == (state.accepted, state.retries)
    assert (after.heard_to, after.cancel_all) == (state.heard_to, state.cancel_all)
    return after, first[0]


STORIES = {
    "untouched": [],
    "intent": [Intent("a", 1, "sha", 2.0)],
    "without hash": [Intent("a", 1, "", 2.0)],
    "cleared": [Intent("a", 1, "sha", 2.0), Cleared("a", 1, 3.0)],
    "job": [Intent("a", 1, "sha", 2.0), Submitted("a", 1, "job_1", 3.0)],
    "unconfirmed": [Intent("a", 1, "sha", 2.0), Unconfirmed("a", 1, 3.0)],
    "ended": [Intent("a", 1, "sha", 2.0), Submitted("a", 1, "job_1", 3.0), ended("a", 1, "job_1")],
    "second intent": [Intent("a", 1, "sha", 2.0), ended("a", 1), Intent("a", 2, "sha", 9.0)],
    "second cleared": [Intent("a", 1, "sha", 2.0), ended("a", 1), Intent("a", 2, "sha", 9.0), Cleared("a", 2, 9.5)],
    "second job": [ended("a", 1, "job_1"), Intent("a", 2, "sha", 9.0), Submitted("a", 2, "job_2", 9.5)],
    "twice ended": [Intent("a", 1, "s", 2.0), ended("a", 1), Intent("a", 2, "s", 9.0), ended("a", 2, "job_2")],
    "resubmitted": [Intent("a", 1, "sha", 2.0), Unconfirmed("a", 1, 3.0), ended("a", 1)],
    "cancelled early": [Cancelling("a", 1, "user", 3.0)],
    "cancelled": [Intent("a", 1, "s", 2.0), Submitted("a", 1, "job_1", 3.0), Cancelling("a", 1, "user", 3.0)],
    "looked at again": [Intent("a", 1, "s", 2.0), Submitted("a", 1, "job_1", 3.0), PollAgain("a", 1, "failed")],
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_a_row_that_is_kept_keeps_its_trail(story):
    state = folded(*story)
    after, output = rewritten(state, b"")
    assert output == b""
    assert {key: facts(journaled) for key, journaled in after.journaled_rows.items()} == {
        key: facts(journaled) for key, journaled in state.journaled_rows.items()
    }


ANY_STORY = st.sampled_from(list(STORIES.values()))


@given(st.lists(st.tuples(ANY_STORY, st.sampled_from(["", "done", "unmarked", "drop"])), max_size=8))
def test_a_batch_keeps_what_it_was(rows):
    """Every row is one of: open, finished with its marker, finished without, finished and dropped."""
    entries, output = [], b""
    for i, (story, end) in enumerate(rows):
        key = f"row-{i}"
        entries += [type(e)(**{f: getattr(e, f) for f in e.__slots__} | {"key": key}) for e in story]
        if end:
            job_id = next((entry.job_id for entry in reversed(story) if isinstance(entry, Submitted)), None)
            line = record(key, "failed" if end == "drop" else "succeeded", job_id=job_id)
            if end != "unmarked":
                entries.append(Done(key, 0, len(output), len(line), crc32(line), "failed"))
            output += line
    state = folded(*entries, RequestsAccepted(40, all=True))
    before = recover(state, output)
    after, new = rewritten(state, output)
    result = recover(after, new)
    dropped = {f"row-{i}" for i, (_, end) in enumerate(rows) if end == "drop"}
    assert result.finished.keys() == before.finished.keys() - dropped
    assert (result.output_good_to, result.output_corrupt_at) == (len(new), None)
    assert {key: facts(t) for key, t in result.open_journaled.items() if key not in dropped} == {
        key: facts(t) for key, t in before.open_journaled.items()
    }
    for key in result.finished:
        gen, offset, length, crc, _ = after.journaled_rows[key].marker
        assert (gen, crc) == (1, crc32(new[offset : offset + length])), "every record has its marker"
    twice, same = rewritten(after, new, {"failed"})
    assert (same, twice.gen) == (new, 2)


JOB = [Intent("a", 1, "sha", 2.0), Submitted("a", 1, "job_1", 3.0)]


@pytest.mark.parametrize(
    ("story", "state", "expected"),
    [
        (JOB, "failed", {"job_id": "job_1", "again": "failed", "submitted_at": 3.0}),
        (JOB, "expired", {"job_id": "job_1", "again": "expired"}),
        ([*JOB, Cancelling("a", 1, "user", 4.0)], "cancelled", {"job_id": "job_1", "again": "cancelled", "cancel": None}),
        (STORIES["second job"], "failed", {"job_id": "job_2", "again": "failed"}),
        ([Intent("a", 1, "sha", 2.0), Unconfirmed("a", 1, 3.0)], "unconfirmed", {"unconfirmed": True, "again": None}),
        ([Intent("a", 1, "sha", 2.0)], "unconfirmed", {"open_intent": True, "again": None}),
        ([Intent("a", 1, "sha", 2.0)], "failed", {"open_intent": False, "attempt": 2, "retry_at": 0.0}),
        ([Intent("a", 1, "sha", 2.0), Cleared("a", 1, 3.0)], "rejected", {"is_void": True}),
        ([Cancelling("a", 1, "user", 4.0)], "cancelled", None),
        ([], "rejected", None),
    ],
    ids=["job", "gone job", "cancelled job", "second job", "lost", "crashed", "answered at once", "refused", "never sent", "unread"],
)  # fmt: skip
def test_a_dropped_row_comes_back_as_far_as_it_may(story, state, expected):
    line = record("a", state)
    before = folded(*story, Done("a", 0, 0, len(line), crc32(line), "failed"))
    after, output = rewritten(before, line + record("b", "succeeded"))
    assert output == record("b", "succeeded")
    journaled = after.journaled_rows.get("a")
    if expected is None:
        assert journaled is None
    else:
        assert journaled.marker is None
        assert {name: getattr(journaled, name) for name in expected} == expected


def test_a_second_attempt_that_was_answered_at_once_comes_back_behind_the_first():
    story = [ended("a", 1, "job_0"), Intent("a", 2, "sha", 2.0)]
    line = record("a", "failed")
    after, _ = rewritten(folded(*story, Done("a", 0, 0, len(line), crc32(line), "failed")), line)
    journaled = after.journaled_rows["a"]
    assert [(end.attempt, end.job_id, end.state) for end in journaled.ended] == [
        (1, "job_0", "internal_error"),
        (2, None, "failed"),
    ]
    assert (journaled.attempt, journaled.open_intent) == (3, False)


def test_a_cancel_whose_submit_was_never_answered_counts_as_unconfirmed():
    line = record("a", "cancelled", "submit_unanswered")
    state = folded(Intent("a", 1, "sha", 2.0), Cancelling("a", 1, "user", 3.0))
    assert announcement(state, line, {"cancelled"}).keys == {}, "it is not meant by `cancelled`"
    after, _ = rewritten(state, line, {"unconfirmed"})
    assert (after.journaled_rows["a"].open_intent, after.journaled_rows["a"].cancel) == (True, None)


def test_keys_narrow_what_is_dropped():
    output = record("a", "failed") + record("b", "failed") + record("c", "succeeded")
    after, new = rewritten(folded(), output, {"failed"}, {"b", "c"})
    assert [span.key for span in spans(new)] == ["a", "c"]
    assert set(after.journaled_rows) == {"a", "c"}


def test_a_large_output_comes_in_pieces():
    line = RecordLine(id="rec", custom_id="a", state=State.SUCCEEDED, output_text="x" * 300_000).to_json() + b"\n"
    output = line * 9 + record("b", "failed") + line * 3
    pieces = list(new_output(announcement(folded(), output, FAILED), output))
    assert b"".join(pieces) == line * 12
    assert max(map(len, pieces)) < 1_500_000


def test_a_finished_row_whose_record_is_gone_is_still_never_sent_again():
    state = folded(Done("a", 0, 0, 10, 99, "failed"))
    after, _ = rewritten(state, b"")
    assert "a" in recover(after, b"").open_journaled


def test_every_flipped_bit_of_a_rewritten_journal_is_corruption():
    lines = list(new_journal(*_small()))
    data = b"".join(lines)
    last = sum(len(line) for line in lines if b'{"synced":' not in line)
    for at in range(last * 8):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        state = fold(part + b"\n" for part in bytes(flipped).split(b"\n")[:-1])
        assert state.corrupt, f"bit {at}"


def _small():
    output = record("a", "failed")
    state = folded(*JOB)
    return state, announcement(state, output, FAILED), output


def test_what_is_no_output_is_refused():
    with pytest.raises(ValueError, match="torn"):
        list(spans(record("a", "failed") + b'{"half'))


def test_a_trail_without_facts_has_no_entries():
    assert list(entries_of("a", JournaledRow())) == []


def test_what_is_unknown_here_is_carried_on():
    unknown = frame(b'{"of_tomorrow":{"spent":"0.1"}}')
    header = HEADER.to_line({"of_tomorrow": True})
    output = record("a", "failed")
    state = fold([header, Intent("a", 1, "s", 2.0).to_line(), unknown])
    lines = list(new_journal(state, announcement(state, output, FAILED), output, [unknown]))
    assert (lines[0], lines.count(unknown)) == (header, 1)
    after = fold(lines)
    assert (after.torn, after.unknown, after.header_extras) == (False, 1, {"of_tomorrow": True})


def test_a_record_may_hold_more_and_less_than_is_known_here():
    output = b'{"custom_id":"a","state":"failed","of_tomorrow":1}\n'
    order = announcement(folded(), output, FAILED)
    assert order.keys == {"a": {"state": "failed", "job_id": None, "code": None, "billing": "unknown"}}


def test_records_of_an_earlier_version_that_lack_keys_are_rewritten_too():
    (span,) = spans(b'{"id":"rec","custom_id":"a","state":"failed"}\n')
    assert span.end_of_row == {"state": "failed", "job_id": None, "code": None, "billing": "unknown"}
