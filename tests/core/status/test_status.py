"""How a batch stands, from the lines of its two files: counts, the pace, and how the last run ended."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.journal.entries import (
    AttemptEnded,
    Cancelling,
    Cleared,
    Done,
    Intent,
    PollAgain,
    RequestsAccepted,
    Rewrite,
    Started,
    Stopped,
    Submitted,
    Unconfirmed,
)  # fmt: skip
from batchrun.core.status.status import (
    JournalFollower,
    LastRun,
    Oldest,
    RecentCounts,
    RecordCounts,
    RunState,
    status_of,
)
from batchrun.core.text.readable import seconds_of_utc, utc
from tests.core.journal.test_entries import HEADER

NOW = 1_800_000_000.0
RUNNING = [Started(7, NOW - 60, 10)]


def record(key, state="succeeded", at=NOW - 1, **more):
    return {"custom_id": key, "state": state, "error": None, "warnings": [], "finished_at": utc(at), **more}


def failed(key, state, code, kind="JobFailed"):
    return record(key, state, error={"code": code, "kind": kind})


def markers(records, gen=0):
    """The `done` entries of the records of an output."""
    offset, found = 0, []
    for one in records:
        length = len(orjson.dumps(one)) + 1
        found.append(Done(one["custom_id"], gen, offset, length, 1, one["state"]))
        offset += length
    return found


def stand(entries=(), records=(), *, now=NOW, held=False, process=None, sceptical=False, unread=0):
    follower, counts = JournalFollower(sceptical=sceptical), RecordCounts()
    follower.since = now - 300
    counts.keep_times_since(now - 300)
    follower.take(entry.to_line() for entry in [HEADER, *entries])
    counts.times.run_since(None if follower.fold.started is None else follower.fold.started.at)
    size = 0
    for one in records:
        line = orjson.dumps(one) + b"\n"
        follower.recorded(counts.take(line))
        size += len(line)
    assert sceptical or not follower.trusts_too_much(size)
    return status_of(follower, counts, now, held=held, process=process, unread=(size, size + unread))


def stages(found):
    return {stage.value: rows for stage, rows in found.stages.items() if rows}


# --- rows ---


def test_every_row_has_a_stage():
    entries = [
        *RUNNING,
        Intent("a", 1, "s", NOW), Submitted("a", 1, "resp_a", NOW),
        Intent("b", 1, "s", NOW),
        Intent("c", 1, "s", NOW), Cleared("c", 1, NOW),
        Intent("d", 1, "s", NOW), Submitted("d", 1, "resp_d", NOW),
        AttemptEnded("d", 1, "resp_d", "failed", "server_error", "unknown", NOW, NOW),
        Intent("e", 1, "s", NOW), Submitted("e", 1, "resp_e", NOW), Cancelling("e", 1, "user", NOW),
        Intent("f", 1, "s", NOW), Unconfirmed("f", 1, NOW),
        Intent("g", 1, "s", NOW), Submitted("g", 1, "resp_g", NOW),
    ]  # fmt: skip
    found = stand(entries, [record("g")], held=True, process=7)
    assert stages(found) == {"watching": 1, "submitting": 2, "retrying": 1, "cancelling": 1, "waiting": 4}
    assert (found.total, found.done, found.open_rows, found.jobs, found.new_attempts) == (10, 1, 9, 2, 1)


def test_a_record_counts_with_its_marker_or_without():
    sent = [Intent("a", 1, "s", NOW), Submitted("a", 1, "resp_a", NOW)]
    for entries in ([*RUNNING, *sent], [*RUNNING, *sent, *markers([record("a")])]):
        found = stand(entries, [record("a")])
        assert (found.done, stages(found)) == (1, {"waiting": 9})


def test_the_total_of_a_batch_that_was_only_collected_is_unknown():
    found = stand([Started(7, NOW - 60, None), Intent("a", 1, "s", NOW)], [record("b")])
    assert (found.total, found.open_rows, found.left, stages(found)) == (None, None, None, {"submitting": 1})
    later = stand([Started(7, 1.0, 10), Stopped("SIGINT", 2.0), Started(8, NOW - 60, None)])
    assert later.total == 10, "a run that collects has not read the input again"


def test_an_input_that_became_shorter_leaves_no_fewer_than_no_rows():
    found = stand([Started(7, NOW - 60, 1), Intent("c", 1, "s", NOW)], [record("a"), record("b")])
    assert (found.total, found.open_rows, stages(found)) == (3, 1, {"submitting": 1})


def test_failures_warnings_and_tokens_are_counted_over_the_whole_output():
    usage = {"input_tokens": 3, "output_tokens": None, "total_tokens": 5, "cached_tokens": 9}
    records = [
        record("a", warnings=["refusal"], usage=usage),
        record("b", usage={"input_tokens": 4, "output_tokens": None, "total_tokens": "6"}),
        failed("c", "blocked", "content_filter"), failed("d", "blocked", "content_filter"), failed("e", "timeout", None, "APITimeoutError"),
        record("f", error={"code": "x", "kind": "y"}), record("g", usage=None),
    ]  # fmt: skip
    found = stand(RUNNING, records)
    assert dict(found.codes) == {("blocked", "content_filter"): 2, ("timeout", "APITimeoutError"): 1}
    assert (found.with_warnings, dict(found.states)) == (1, {"succeeded": 4, "blocked": 2, "timeout": 1})
    assert found.tokens == {"input_tokens": 7, "output_tokens": None, "total_tokens": 5}


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"[]\n", b"null\n", b"{}\n", b'{"custom_id":1,"state":"succeeded"}\n', b"\0\0\n", b'{"custom_id"'],
)
def test_other_lines_than_records_are_not_counted(line):
    counts = RecordCounts()
    assert counts.take(line) is None
    assert counts.records == 0


@pytest.mark.parametrize(
    "more", [{"error": 3, "usage": []}, {"error": {"code": ["x"]}}, {"finished_at": 3}, {"finished_at": "soon"}, {"state": "odd", "error": {"code": "x"}}]
)  # fmt: skip
def test_a_record_of_another_making_is_counted_as_far_as_it_goes(more):
    counts = RecordCounts()
    line = orjson.dumps(record("a") | {"state": "failed"} | more)
    assert (counts.take(line), counts.records, counts.codes, counts.recent.between(0, NOW)) == (
        "a",
        1,
        {},
        "finished_at" not in more,
    )


def test_the_oldest_job():
    entries = [
        *RUNNING,
        *(Submitted(key, 1, f"resp_{key}", NOW - age) for key, age in (("a", 5.0), ("b", 50.0), ("c", 500.0))),
    ]
    assert stand(entries, [record("c")]).oldest == Oldest("b", "resp_b", NOW - 50)
    assert stand(RUNNING).oldest is None


def test_cancel_of_all_and_rewritings_are_known():
    found = stand([*RUNNING, RequestsAccepted(9, all=True), Rewrite(1, {})])
    assert (found.cancel_all, found.rewriting) == (True, True)
    found = stand([*RUNNING, PollAgain("a", 1, "failed"), Submitted("a", 1, "resp_a", NOW)])
    assert (found.rewriting, stages(found)) == (False, {"watching": 1, "waiting": 9})


def test_a_row_and_its_message_stand_for_all_that_failed_alike():
    records = [failed("a", "failed", "x"), failed("b", "failed", "x"), failed("c", "failed", None)]
    for one, message in zip(records, (None, "first", "second"), strict=True):
        one["error"]["message"] = message
    records.append({**records[1], "custom_id": "d"})
    assert stand(records=records).samples == {("failed", "x"): ("b", "first"), ("failed", "JobFailed"): ("c", "second")}


# --- the run ---


@pytest.mark.parametrize(
    ("last", "run"),
    [
        (Stopped("complete", NOW), LastRun(RunState.PARTIAL, 7, NOW - 60, NOW)),  # as with --limit: rows are left
        (Stopped("halted", NOW, "quota: no more"), LastRun(RunState.HALTED, 7, NOW - 60, NOW, message="quota: no more")),
        (Stopped("detached", NOW), LastRun(RunState.DETACHED, 7, NOW - 60, NOW)),
        (Stopped("stopped", NOW), LastRun(RunState.STOPPED, 7, NOW - 60, NOW)),
        (Stopped("SIGHUP", NOW), LastRun(RunState.STOPPED, 7, NOW - 60, NOW, "SIGHUP")),
        (Stopped("stdout closed", NOW), LastRun(RunState.STOPPED, 7, NOW - 60, NOW, "stdout closed")),
        (Stopped("SIGINT", NOW, "auth: no"), LastRun(RunState.STOPPED, 7, NOW - 60, NOW, "SIGINT", "auth: no")),
        (Intent("a", 1, "s", NOW - 9), LastRun(RunState.LOST, 7, NOW - 60, NOW - 9)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("held", [False, True])
def test_how_the_last_run_ended(last, run, held):
    """Also while its process has not let go of the lock: its last word is said."""
    if held and run.state is RunState.LOST:
        run = LastRun(RunState.RUNNING, 7, NOW - 60, None)
    assert stand([*RUNNING, last], held=held, process=7).run == run


def test_a_signal_that_came_too_late_to_stop_anything_does_not_count():
    entries = [Started(7, NOW - 60, 1), Stopped("SIGINT", NOW)]
    assert stand(entries, [record("a")]).run.state is RunState.COMPLETE
    assert stand([entries[0], Stopped("complete", NOW)], [record("a")]).run.state is RunState.COMPLETE
    assert stand([*entries[:1], Stopped("SIGINT", NOW, "quota: x")], [record("a")]).run.state is RunState.STOPPED


def test_a_lost_run_is_known_to_have_lived_until_its_last_entry_or_record():
    assert stand(RUNNING, [record("a", at=NOW - 3)]).run.until == NOW - 3
    assert stand([]).run == LastRun(RunState.LOST, None, None, None)


@pytest.mark.parametrize("entries", [[], RUNNING, [*RUNNING, Stopped("SIGINT", NOW)]])
def test_a_process_without_its_started_entry_is_starting(entries):
    found = stand(entries, held=True, process=8)
    assert (found.run, found.recent) == (LastRun(RunState.STARTING, 8, None, None), None)


def test_a_holder_that_cannot_be_named_is_taken_for_the_one_that_started():
    assert stand(RUNNING, held=True, process=None).run.state is RunState.RUNNING


# --- the pace ---


def paced(age, *, submits=(), records=(), held=True, **more):
    entries = [Started(7, NOW - age, 100), *(Intent(f"r{i}", 1, "s", NOW - at) for i, at in enumerate(submits))]
    return stand(entries, [record(f"r{i}", at=NOW - at) for i, at in enumerate(records)], held=held, process=7, **more)


def test_the_pace_is_that_of_the_last_five_minutes():
    found = paced(3600.0, submits=[1, 100, 299, 301, 3000], records=[1, 299.5, 301, 3000])
    assert found.recent == RecentCounts(300.0, submits=3, records=2, refused=0, unconfirmed=0)
    assert (found.recent.submits_a_minute, found.recent.records_a_minute) == (0.6, 0.4)
    assert found.left == 96 / 2 * 300


def test_a_younger_run_is_measured_since_it_began():
    """What earlier runs did within the five minutes is not its pace."""
    found = paced(30.0, submits=[1, 100], records=[1, 2, 100])
    assert (found.recent.seconds, found.recent.submits, found.recent.records) == (30.0, 1, 2)
    assert found.left == 97 / 2 * 30


def test_refused_and_unconfirmed_submits_are_counted():
    lost = [Cleared("a", 1, NOW - 5), Unconfirmed("b", 1, NOW - 5), Cleared("c", 1, NOW - 500)]
    found = stand([Started(7, NOW - 1000, 9), *lost], held=True, process=7)
    assert (found.recent.refused, found.recent.unconfirmed) == (1, 1)


@pytest.mark.parametrize("found", [
    paced(1.0, records=[0.5]), paced(60.0, records=[1], held=False), paced(-60.0, records=[1]),
], ids=["too early", "no run is on", "the clock was set back"])  # fmt: skip
def test_no_pace_and_no_time_left(found):
    assert (found.recent, found.left) == (None, None)


def test_no_time_left_without_a_record():
    found = paced(60.0, submits=[1])
    assert (found.recent.submits, found.left) == (1, None)
    assert paced(60.0, records=[1] * 100).left == 0


# --- an output that was shortened ---


def test_o03_markers_without_their_records_are_noticed_and_their_rows_open_again():
    records = [record("a"), record("b")]
    sent = [entry for key in "ab" for entry in (Intent(key, 1, "s", NOW), Submitted(key, 1, f"resp_{key}", NOW))]
    entries = [*RUNNING, *sent, *markers(records)]
    follower = JournalFollower()
    follower.take(entry.to_line() for entry in [HEADER, *entries])
    assert follower.trusts_too_much(10)
    assert not follower.trusts_too_much(1000)
    found = stand(entries, records[:1], sceptical=True)
    assert (found.done, found.gone, stages(found)) == (1, 1, {"watching": 1, "waiting": 8})
    fetched = [*entries, Started(8, NOW, 10), *markers([records[0], record("b", "expired")])]
    found = stand(fetched, [records[0], record("b", "expired")], sceptical=True)
    assert (found.done, found.gone, stages(found)) == (2, 0, {"waiting": 8})


def test_a_record_that_is_still_to_be_read_is_not_gone():
    records = [record("a"), record("b")]
    entries = [*RUNNING, *markers(records)]
    assert stand(entries, records[:1], sceptical=True, unread=1000).gone == 0
    assert stand(entries, records[:1], sceptical=True, unread=10).gone == 1


def test_markers_of_an_older_generation_are_not_trusted_either():
    follower = JournalFollower()
    follower.take(entry.to_line() for entry in [HEADER, Done("a", 0, 0, 9, 1, "failed")])
    assert not follower.trusts_too_much(9)
    follower.take([Rewrite(1, {}).to_line()])
    assert not follower.trusts_too_much(9), "between two generations nothing fits, and it passes"


# --- parts ---


@st.composite
def nights(draw):
    """Entries and records of a batch in the order in which a run writes them: (file, line)."""
    written, offset = [("journal", HEADER), ("journal", Started(7, NOW - 60, 9))], 0
    for key in draw(st.lists(st.sampled_from("abcdef"), unique=True)):
        written.append(("journal", Intent(key, 1, "s", NOW)))
        fate = draw(st.sampled_from(["intent", "cleared", "watched", "recorded", "marked"]))
        if fate == "cleared":
            written.append(("journal", Cleared(key, 1, NOW)))
        elif fate != "intent":
            written.append(("journal", Submitted(key, 1, f"resp_{key}", NOW)))
        if fate in ("recorded", "marked"):
            one = record(key, draw(st.sampled_from(["succeeded", "failed"])))
            written.append(("output", one))
            length = len(orjson.dumps(one)) + 1
            if fate == "marked":
                written.append(("journal", Done(key, 0, offset, length, 1, one["state"])))
            offset += length
    return written


@given(nights(), st.data(), st.booleans())
def test_read_in_any_parts_the_status_is_that_of_reading_at_once(written, data, sceptical):
    follower, counts = JournalFollower(sceptical=sceptical), RecordCounts()
    read = {"journal": 0, "output": 0}
    for end in [*sorted(data.draw(st.lists(st.integers(0, len(written)), max_size=4))), len(written)]:
        journal = [what for file, what in written[:end] if file == "journal"]
        output = [what for file, what in written[:end] if file == "output"]
        follower.take(entry.to_line() for entry in journal[read["journal"] :])
        for one in output[read["output"] :]:
            follower.recorded(counts.take(orjson.dumps(one)))
        read = {"journal": len(journal), "output": len(output)}
        if not journal:
            continue
        found = status_of(follower, counts, NOW, held=True, process=7, unread=(9999, 9999))
        once = stand(journal[1:], output, held=True, process=7)
        assert (found.states, found.stages, found.total, found.jobs) == (
            once.states,
            once.stages,
            once.total,
            once.jobs,
        )


@given(st.integers(0, 4_000_000_000_000))
def test_a_moment_survives_the_way_into_a_record_and_back(millis):
    assert seconds_of_utc(utc(millis / 1000)) == pytest.approx(millis / 1000, abs=1e-6)


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-11-20T08:34:18Z", "2026-11-20 08:34:18.000Z", "２026-11-20T08:34:18.000Z"]
)
def test_a_time_in_another_form_is_none(text):
    assert seconds_of_utc(text) is None
