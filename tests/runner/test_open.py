"""A batch is taken up again: what is refused leaves every file as it was, and nothing is paid for twice."""

import asyncio
import errno
import json
import os
import stat
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

from batchrun.core.engine.engine import Engine
from batchrun.core.jobs.messages import Outcome, Recovered, RowsTakenUp, SuspensionEnded
from batchrun.core.journal.entries import AttemptEnded, Header, Intent, Submitted, frame
from batchrun.core.journal.fold import fold
from batchrun.core.rows.parse import BodyFlags
from batchrun.core.settings.settings import UsageError
from batchrun.edge.append_file import REAL_DISK, AppendFailed, BatchFilesError, FileNames, FileRefused, open_append
from batchrun.edge.lock import Lock, LockHeld, Locks
from batchrun.edge.source import InputChanged, InputRefused, check
from batchrun.runner.loop import rows as loop_rows
from batchrun.runner.loop import runner as loop
from batchrun.runner.opening import open as startup
from tests.runner.night import KEY, WALL, Night, Wire, row


@pytest.fixture
def night(tmp_path):
    night = Night(tmp_path)
    night.rows(row("a", "A"), row("b", "B"), row("c", "C"))
    return night


def refused(night, kind, *words, path=None, **given):
    """The refusal names all `words`, and nothing was asked of the service or done to a file."""
    before, asked = night.snapshot(), len(night.wire.posts) + len(night.wire.polls)
    with pytest.raises(kind) as caught:
        night.run(path, **given)
    for word in words:
        assert word in str(caught.value)
    assert night.snapshot() == before
    assert len(night.wire.posts) + len(night.wire.polls) == asked
    assert not Lock.take(night.names.lock).release()  # it was given back
    return str(caught.value)


def journal(night, *entries):
    """Append to the journal what an earlier run would have."""
    with night.journal.open("ab") as file:
        file.write(b"".join(entry.to_line() for entry in entries))


def begun(night):
    """A journal with its header alone, as after a crash before the first row."""
    night.open()
    night.close()


def sha(night, key):
    with check(night.folder / "in.jsonl") as source:
        return source.row(source.ordinal_of(key)).row_sha256


# --- the input ---


def test_f06_appended_rows_run_and_reordered_ones_are_not_paid_for_again(night):
    night.complete()
    night.rows(row("c", "C"), row("d", "D"), row("a", "A"), row("b", "B"), row("e", "E"))
    night.complete()
    assert sorted(night.wire.posts) == ["A", "B", "C", "D", "E"]
    assert set(night.states().values()) == {"succeeded"}
    night.complete()
    assert (len(night.wire.posts), len(night.wire.polls)) == (5, 5), "a finished batch asks for nothing"


def test_f07_a_row_with_another_body_is_refused_with_its_line(night):
    night.complete()
    night.rows(row("a", "A"), "\n", row("b", "other"), row("c", "changed as well"))
    refused(night, InputRefused, "line 3, 4;", "in.jsonl", "--accept-changes")


def test_f07_with_accept_changes_only_rows_not_yet_sent_take_the_new_body(night):
    night.wire.status = "failed"
    begun(night)
    hashes = {key: sha(night, key) for key in "abc"}
    journal(
        night,
        Intent("a", 1, hashes["a"], WALL),
        Submitted("a", 1, "resp_a", WALL),
        Intent("b", 1, hashes["b"], WALL),
        Submitted("b", 1, "resp_b", WALL),
        AttemptEnded("b", 1, "resp_b", "internal_error", "server_error", "unknown", WALL, WALL),
    )
    night.wire.jobs |= {"resp_a": "A", "resp_b": "B"}
    night.rows(row("a", "A2"), row("b", "B2"), row("c", "C2"))
    night.complete(accept_changes=True, retries=0)
    assert night.wire.posts == ["C2"]
    records = night.records()
    assert {key: records[key]["job_id"] for key in "ab"} == {"a": "resp_a", "b": "resp_b"}
    assert {key: records[key]["error"]["code"] for key in "ab"} == {"a": "server_error", "b": "server_error"}
    assert records["b"]["retry_count"] == 0


@pytest.mark.parametrize("attempt", [1, 2])
def test_f07_a_changed_row_gets_no_new_attempt_with_another_body(night, attempt):
    night.rows(row("a", "A"))
    begun(night)
    journal(night, Intent("a", 1, sha(night, "a"), WALL), Submitted("a", 1, "resp_a", WALL))
    if attempt == 2:  # whose intent has no hash
        end = AttemptEnded("a", 1, "resp_a", "internal_error", "server_error", "unknown", WALL, WALL)
        journal(night, end, Intent("a", 2, "", WALL), Submitted("a", 2, "resp_a2", WALL))
    night.wire.status, night.wire.jobs = "failed", {"resp_a": "A", "resp_a2": "A"}
    night.rows(row("a", "A2"))
    refused(night, InputRefused, "--accept-changes")
    night.complete(accept_changes=True)
    assert night.wire.posts == []
    assert night.states() == {"a": "internal_error"}


def test_flags_that_enter_bodies_must_be_the_same(night):
    night.complete()
    night.flags = BodyFlags.read("gpt-6", ())
    refused(night, UsageError, "no --model and no --set", "--model gpt-6", "--accept-changes")
    night.complete(accept_changes=True)


def test_f08_another_input_is_refused_and_both_are_named(night):
    night.complete()
    other = night.rows(row("x"), row("y"), name="other.jsonl")
    refused(night, InputRefused, "other.jsonl", "in.jsonl", "none of the 3 rows", path=other)


@pytest.mark.parametrize("wanted", [None, lambda key, _: key in ("b", "gone")])
def test_open_rows_come_once_each_and_their_trails_are_given_away(night, wanted):
    begun(night)
    for key in ("gone", "b", "a"):
        journal(night, Intent(key, 1, sha(night, key) if key != "gone" else "0" * 32, WALL))
        journal(night, Submitted(key, 1, f"resp_{key}", WALL))
    night.rows(row("a", "A"), row("b", "B2"), row("c", "C"))
    batch = night.open(accept_changes=True)
    taken = [
        (one.key, (one.about.sendable, journaled.job_id)) for one, journaled in batch.open_rows(night.source, wanted)
    ]
    found = dict(taken)
    assert len(found) == len(taken), "each once"
    left = set(batch.recovery.open_journaled)
    night.close()
    every = {"a": (True, "resp_a"), "b": (False, "resp_b"), "gone": (False, "resp_gone")}
    assert found == {key: told for key, told in every.items() if wanted is None or wanted(key, None)}
    assert left == every.keys() - found.keys()
    assert not batch.state.journaled_rows


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_f09_a_row_that_vanished_is_collected_and_named(night, status):
    begun(night)
    journal(night, Intent("gone", 1, "0" * 32, WALL), Submitted("gone", 1, "resp_gone", WALL))
    journal(night, Intent("a", 1, sha(night, "a"), WALL), Submitted("a", 1, "resp_a", WALL))
    night.wire.jobs = {"resp_gone": "?", "resp_a": "A"}
    night.wire.status = status
    night.complete(retries=0 if status == "completed" else 1)
    assert "gone" in night.batch.notes[-1]
    assert night.records()["gone"]["job_id"] == "resp_gone"
    assert "?" not in night.wire.posts, "nobody has its body any more"


def test_without_the_input_what_is_open_is_collected_and_nothing_is_sent(night):
    begun(night)
    journal(
        night,
        Intent("a", 1, sha(night, "a"), WALL),
        Submitted("a", 1, "resp_a", WALL),
        Intent("b", 1, sha(night, "b"), WALL),
        Submitted("b", 1, "resp_b", WALL),
        AttemptEnded("b", 1, "resp_b", "internal_error", "server_error", "unknown", WALL, WALL),
    )
    night.wire.jobs = {"resp_a": "A"}
    night.complete("collect")
    assert night.wire.posts == []
    assert night.states() == {"a": "succeeded"}
    assert "1 rows wait for their next retry" in night.batch.notes[-1]
    night.complete()
    assert sorted(night.wire.posts) == ["B", "C"]
    assert set(night.states()) == {"a", "b", "c"}


def test_without_the_input_and_without_retries_what_waits_for_one_gets_its_record(night):
    begun(night)
    journal(
        night,
        Intent("b", 1, sha(night, "b"), WALL),
        Submitted("b", 1, "resp_b", WALL),
        AttemptEnded("b", 1, "resp_b", "internal_error", "server_error", "unknown", WALL, WALL),
    )
    night.wire.jobs, night.wire.status = {"resp_b": "B"}, "failed"
    night.complete("collect", retries=0)
    assert night.states() == {"b": "internal_error"}
    assert night.wire.posts == []


def test_a_row_whose_line_changed_under_the_run_is_left_to_the_next_one(night):
    """It was not sent, and a record that says so would be its last word."""
    path = night.folder / "in.jsonl"
    whole = path.read_text()

    def change(_):
        path.write_text(whole.replace('"B"', '"X"').replace('"C"', '"Y"'))

    night.wire.before = change
    with pytest.raises(InputChanged):
        night.run(submits=1, concurrency=1)
    assert night.wire.posts == ["A"]
    path.write_text(whole)
    night.wire.before = None
    night.complete()
    assert night.wire.posts == ["A", "B", "C"]
    assert night.states() == dict.fromkeys("abc", "succeeded")


# --- the output and the journal ---


def test_o01_an_output_without_a_journal_is_refused_and_moved_aside_by_fresh(night):
    night.output.write_text("my notes\nof last week\n")
    for given in ({}, {"new_journal": True}):
        refused(night, FileRefused, "out.jsonl", "another program's", "--fresh", **given)
    night.complete(fresh=True)
    assert set(night.states()) == {"a", "b", "c"}
    (aside,) = (path for path in night.folder.iterdir() if path.name.startswith("out.jsonl.2"))
    assert aside.read_text() == "my notes\nof last week\n"


def test_o01_records_of_another_batch_are_called_so(night):
    night.complete()
    night.journal.unlink()
    night.rows(row("x"), row("y"))
    refused(night, FileRefused, "none of them of this input", "another batch's", "--fresh")


def test_o02_a_lost_journal_is_refused_with_the_rows_at_risk(night):
    night.rows(row("a", "A"))
    night.complete()
    night.rows(row("a", "A"), row("b", "B"), row("c", "C"))
    night.journal.unlink()
    refused(night, FileRefused, "1 records, 1 of them of this input", "2 rows have no record", "--new-journal")
    night.complete(new_journal=True)
    assert sorted(night.wire.posts) == ["A", "B", "C"]
    assert set(night.states()) == {"a", "b", "c"}


def test_o02_damage_before_other_records_is_no_torn_tail_without_a_journal(night):
    night.complete()
    night.journal.unlink()
    first, *others = night.output.read_bytes().splitlines(keepends=True)
    night.output.write_bytes(b"".join([first, b'{"half a rec\n', *others]))
    refused(night, FileRefused, f"byte {len(first)}", "2 more records", new_journal=True)


@pytest.mark.parametrize("left", [0, 1, 40, -5])
def test_o03_records_that_are_gone_are_fetched_by_id_and_never_sent_again(night, left):
    night.complete()
    whole = night.output.read_bytes()
    if left:
        night.output.write_bytes(whole[: len(whole) * left // 100 if left > 0 else left])
    else:
        night.output.unlink()
    night.complete()
    assert len(night.wire.posts) == 3
    assert set(night.states()) == {"a", "b", "c"}
    assert any("are missing" in note for note in night.batch.notes)


def test_o05_files_that_others_can_read_are_made_private(night):
    night.complete()
    for path in (night.output, night.journal):
        path.chmod(0o644)
    night.rows(row("a", "A"), row("b", "B"), row("c", "C"), row("d", "D"))
    night.complete()
    for path in (night.output, night.journal):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_o10_a_second_run_ends_without_a_call_and_names_the_first(night):
    night.complete()
    first = Lock.take(night.names.lock)
    before = night.snapshot()
    with pytest.raises(LockHeld, match=f"process {os.getpid()},"):
        night.run(fresh=True)
    assert night.snapshot() == before
    assert len(night.wire.posts) == 3
    first.release()


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.journal"])
def test_o11_a_file_that_is_replaced_under_the_run_ends_it(night, name):
    def replace(request):
        if request.method == "GET":
            (night.folder / name).rename(night.folder / "elsewhere")
            night.wire.before = None

    night.wire.before = replace
    assert night.run() is Outcome.WRITE_FAILED
    assert name in night.said[0]
    (night.folder / "elsewhere").rename(night.folder / name)
    night.complete()
    assert sorted(night.wire.posts) == ["A", "B", "C"], "nothing was sent twice"


def test_o11_an_output_that_is_cut_under_the_run_ends_it(night):
    """At its end, where it is over before the next look."""

    def cut(request):
        if request.method == "GET" and night.output.stat().st_size:
            os.truncate(night.output, 0)
            night.wire.before = None

    night.wire.before = cut
    assert night.run(connections=1, concurrency=1) is Outcome.WRITE_FAILED
    assert "out.jsonl: expected to find all that was written" in night.said[0]
    night.complete()
    assert sorted(night.wire.posts) == ["A", "B", "C"], "nothing was sent twice"
    assert len(night.records()) == 3


def test_o11_an_output_that_is_cut_is_noticed_within_seconds(night):
    """Not only at the end: the jobs of this run would go on for hours."""

    def cut(request):
        if request.method == "GET" and night.output.stat().st_size:
            os.truncate(night.output, 0)
            night.wire.before, night.wire.status = None, "in_progress"

    night.wire.before = cut
    assert night.run(connections=1, concurrency=1) is Outcome.WRITE_FAILED
    assert "something else cut it" in night.said[0]


@pytest.mark.parametrize("path", ["output", "journal"])
@pytest.mark.parametrize("tail", [b'{"half', bytes(300)], ids=["o12-torn", "o13-zeroed"])
def test_a_tail_is_cut_and_kept(night, path, tail):
    night.complete()
    file = getattr(night, path)
    whole = file.read_bytes()
    file.write_bytes(whole + tail)
    night.complete()
    assert file.read_bytes().startswith(whole)
    assert file.with_name(f"{file.name}.torn").read_bytes() == tail + b"\n"
    assert any(f"cut {len(tail)} torn bytes off {file}" in note for note in night.batch.notes)
    assert len(night.wire.posts) == 3


def test_o19_a_crash_in_the_middle_of_the_mending_is_mended(night, monkeypatch):
    night.complete()
    for file in (night.output, night.journal):
        file.write_bytes(file.read_bytes() + b'{"half')
    real = startup.cut_torn

    def cut(path, offset):
        if path == str(night.output):
            raise KeyboardInterrupt
        return real(path, offset)

    monkeypatch.setattr(startup, "cut_torn", cut)
    with pytest.raises(KeyboardInterrupt):
        night.open()
    monkeypatch.setattr(startup, "cut_torn", real)
    night.complete()
    assert night.output.read_bytes().endswith(b"}\n")
    assert len(night.wire.posts) == 3


def test_o15_a_journal_of_a_newer_version_is_left_alone(night):
    header = json.dumps({"header": {"version": 2, "what else": "nobody here knows"}}).encode()
    night.journal.write_bytes(frame(header) + b"and lines of another form")
    refused(night, FileRefused, "version 2", "version 1", "newer batchrun")
    refused(night, FileRefused, "version 2", repair=True, accept_changes=True)


def test_o16_another_origin_is_refused_and_sees_no_key(night):
    night.complete()
    night.base_url = "https://elsewhere.example.org/v1"
    said = refused(night, FileRefused, "https://api.example.com/v1", "https://elsewhere.example.org/v1", repair=True)
    assert KEY not in said


def test_o17_another_key_is_said_first_and_its_jobs_are_looked_for(night):
    begun(night)
    journal(night, Intent("a", 1, sha(night, "a"), WALL), Submitted("a", 1, "resp_a", WALL))
    night.wire.jobs = {"resp_a": "A"}
    night.key = "sk-another"
    night.complete()
    assert "API key is not the one" in night.batch.notes[0]
    assert night.records()["a"]["job_id"] == "resp_a"
    assert night.wire.polls.count("resp_a") == 1


def test_o17_with_another_key_nothing_is_sent_before_one_of_its_jobs_was_found(night):
    """It may be the key of another project: what was sent there would be paid there, and looked for here."""
    begun(night)
    journal(night, Intent("a", 1, sha(night, "a"), WALL), Submitted("a", 1, "resp_a", WALL))
    night.wire.jobs = {"resp_a": "A"}
    asked = []
    night.wire.before = lambda request: asked.append(request.method)
    night.key = "sk-another"
    night.complete()
    assert (asked[0], sorted(night.wire.posts)) == ("GET", ["B", "C"])


def test_o12_a_torn_record_is_cut_also_where_the_journal_is_begun_anew(night):
    """The next record would stand behind it, on the same line."""
    night.rows(row("a", "A"))
    night.complete()
    night.journal.unlink()
    torn = b'{"custom_id":"b","state":"succ'
    night.output.write_bytes(night.output.read_bytes() + torn)
    night.rows(row("a", "A"), row("b", "B"))
    night.complete(new_journal=True)
    assert night.states() == {"a": "succeeded", "b": "succeeded"}
    assert night.output.with_name("out.jsonl.torn").read_bytes() == torn + b"\n"


@pytest.mark.parametrize("step", ["write", "sync"])
def test_o07_where_the_journal_cannot_be_begun_nothing_is_sent(night, monkeypatch, step):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    disk = replace(REAL_DISK, **{step: full})
    monkeypatch.setattr(startup, "open_append", lambda path: open_append(path, disk))
    with pytest.raises(AppendFailed, match="No space left"):
        night.open()
    assert night.journal.read_bytes() == b""
    monkeypatch.undo()
    night.complete()
    assert sorted(night.wire.posts) == ["A", "B", "C"]


def test_o10_two_outputs_do_not_share_one_journal(tmp_path):
    first, second = (FileNames.of(tmp_path / name, tmp_path / "J") for name in ("A", "C"))
    held = Locks.take(first.locks)
    with pytest.raises(LockHeld, match=r"J\.lock"):
        Locks.take(second.locks)
    assert not held.is_lost()
    held.release()
    Locks.take(second.locks).release()


def test_o10_a_run_whose_journal_another_one_has_ends_without_a_call(night):
    class Elsewhere(Night):
        @property
        def names(self):
            return FileNames.of(self.output, self.folder / "J")

    night = Elsewhere(night.folder)
    held = Lock.take(str(night.folder / "J.lock"))
    with pytest.raises(LockHeld, match=r"J\.lock"):
        night.run()
    assert night.wire.posts == []
    held.release()
    night.complete()


def test_the_copy_of_an_input_may_be_read_again(night):
    copy = night.rows(row("a", "A"), name="out.jsonl.input")
    night.complete(copy)
    assert set(night.states()) == {"a"}


def test_fresh_needs_an_input_to_begin_with(night):
    night.complete()
    night.complete("collect", fresh=True)
    assert set(night.states()) == {"a", "b", "c"}


def test_o22_the_time_of_day_may_jump_between_two_runs(night):
    begun(night)
    hashes = {key: sha(night, key) for key in "ab"}
    night.wire.jobs = {"resp_a": "A"}
    journal(
        night,
        Intent("a", 1, hashes["a"], WALL),
        Submitted("a", 1, "resp_a", WALL),
        Intent("b", 1, hashes["b"], WALL),
        AttemptEnded("b", 1, "resp_b", "internal_error", "server_error", "unknown", WALL + 0.01, WALL),
    )
    night.wall = WALL - 86_400
    night.complete()
    assert night.states() == {"a": "succeeded", "b": "succeeded", "c": "succeeded"}


@pytest.mark.parametrize("field", ["service", "origin", "run_id", "account", "key_fingerprint", "input"])
def test_a_header_without_a_text_where_a_text_belongs_is_refused(field, night):
    """A journal may be anybody's."""
    begun(night)
    first = fold(night.journal.read_bytes().splitlines(keepends=True)).header
    night.journal.write_bytes(replace(first, **{field: ["x"]}).to_line())
    refused(night, FileRefused, "it is damaged at byte 0")


def test_a_torn_header_is_begun_anew_and_a_damaged_one_is_not(night):
    night.journal.write_bytes(b'01234567 {"header":{"ver')
    begun(night)
    assert isinstance(fold(night.journal.read_bytes().splitlines(keepends=True)).header, Header)
    data = night.journal.read_bytes()
    night.journal.write_bytes(data.replace(b"header", b"hEader"))
    refused(night, BatchFilesError, "byte 0", "--fresh")


def test_looks_that_fell_due_while_many_rows_were_taken_up_are_spread(night, monkeypatch):
    begun(night)
    journal(night, Intent("a", 1, sha(night, "a"), WALL), Submitted("a", 1, "resp_a", WALL))
    night.wire.jobs = {"resp_a": "A"}
    events, ahead = [], [0.0]
    handle, real, open_rows = Engine.handle, loop.clock, startup.OpenBatch.open_rows

    def slow(*arguments, **named):
        for one in open_rows(*arguments, **named):
            ahead[0] += 30.0
            yield one

    def noted(engine, event, now):
        events.append(event)
        return handle(engine, event, now)

    monkeypatch.setattr(loop, "clock", lambda: real() + ahead[0])
    monkeypatch.setattr(startup.OpenBatch, "open_rows", slow)
    monkeypatch.setattr(Engine, "handle", noted)
    night.complete()
    recovered, taken_up, woke, *_ = events
    assert isinstance(recovered, Recovered)
    assert isinstance(taken_up, RowsTakenUp)
    assert isinstance(woke, SuspensionEnded)
    assert woke.gap >= 30.0
    assert night.states()["a"] == "succeeded"


def left_open(night, *keys):
    """An earlier run sent these rows and ended."""
    begun(night)
    for key in keys:
        journal(night, Intent(key, 1, sha(night, key), WALL), Submitted(key, 1, f"resp_{key}", WALL))
    night.wire.jobs = {f"resp_{key}": key for key in keys}


def test_an_input_that_changes_while_open_rows_are_read_ends_the_run_in_good_order(night, monkeypatch):
    with_metadata = json.dumps({**json.loads(row("b", "B")), "metadata": {"read": "again"}})
    night.rows(row("a", "A"), with_metadata + "\n", row("c", "C"))
    left_open(night, "a", "b")
    path, open_rows = night.folder / "in.jsonl", startup.OpenBatch.open_rows
    original = path.read_text()

    def changed(*arguments, **named):
        path.write_text(original.replace('"B"', '"X"'))  # since it was checked
        yield from open_rows(*arguments, **named)

    monkeypatch.setattr(startup.OpenBatch, "open_rows", changed)
    with pytest.raises(InputChanged, match="the line changed since it was checked"):
        night.run()
    assert night.wire.posts == []
    assert json.loads(night.journal.read_bytes().splitlines()[-2][9:])["stopped"]["reason"] == "stopped"
    monkeypatch.undo()
    path.write_text(original)
    night.complete()
    assert night.states() == {"a": "succeeded", "b": "succeeded", "c": "succeeded"}
    assert night.wire.posts == ["C"]


def test_others_have_their_turn_while_rows_are_taken_up(night, monkeypatch):
    left_open(night, "a", "b", "c")
    order, handle = [], Engine.handle

    def noted(engine, event, now):
        if isinstance(event, RowsTakenUp):
            order.append(len(event.rows))
            asyncio.get_running_loop().call_soon(order.append, "others")
        return handle(engine, event, now)

    monkeypatch.setattr(loop_rows, "_ROWS_AT_ONCE", 2)
    monkeypatch.setattr(Engine, "handle", noted)
    night.complete()
    assert order == [2, "others", 1, "others"]
    assert (night.wire.posts, set(night.states())) == ([], {"a", "b", "c"})


@pytest.mark.parametrize("path", ["output", "journal"])
def test_o27_a_tail_is_not_kept_in_a_file_with_a_second_name(night, path):
    night.complete()
    file = getattr(night, path)
    file.write_bytes(file.read_bytes() + b'{"half')
    before = file.read_bytes()
    elsewhere = night.folder / "precious"
    elsewhere.write_bytes(b"precious\n")
    elsewhere.chmod(0o644)
    file.with_name(f"{file.name}.torn").hardlink_to(elsewhere)
    with pytest.raises(FileRefused, match=f"{file.name}.torn: expected a file with one name"):
        night.open()
    assert (elsewhere.read_bytes(), elsewhere.stat().st_mode & 0o777) == (b"precious\n", 0o644)
    assert file.read_bytes() == before


@pytest.mark.parametrize("kind", ["a symbolic link", "a file"])
def test_o27_unreadable_responses_are_not_kept_through_a_link(night, kind):
    """Refused at the start: later the response that had to be kept there would be lost."""
    elsewhere = night.folder / "elsewhere"
    elsewhere.mkdir()
    if kind == "a file":
        Path(night.names.unreadable).write_bytes(b"precious\n")
    else:
        Path(night.names.unreadable).symlink_to(elsewhere)
    with pytest.raises(FileRefused, match=rf"out\.jsonl\.unreadable: .* found {kind}; move it away"):
        night.open()
    assert list(elsewhere.iterdir()) == []
    assert not night.journal.exists()
    Path(night.names.unreadable).unlink()
    night.complete()


@pytest.mark.parametrize("days", [3, -3])
def test_o29_a_job_of_a_run_whose_clock_was_days_off_is_collected_and_its_user_told(tmp_path, days):
    night = Night(tmp_path, wire=WireWithAClock(), wall=WALL + days * 86_400.0)
    night.rows(row("a", "A"))
    begun(night)
    journal(night, Intent("a", 1, sha(night, "a"), WALL), Submitted("a", 1, "resp_a", WALL))
    night.wire.jobs["resp_a"] = "A"
    night.wire.status = "in_progress"
    night.complete(deadline=3600.0)
    assert (night.states(), night.wire.posts, night.wire.cancels) == ({"a": "succeeded"}, [], [])
    assert ["the service's clock decides" in note for note in night.said] == [True]


class WireWithAClock(Wire):
    """It is right: a minute has passed since WALL. Jobs complete at their fifth poll."""

    def answer(self, job_id, status):
        if len(self.polls) == 5:
            status = "completed"
        answer = super().answer(job_id, status)
        body = {**json.loads(answer.body), "created_at": int(WALL)}
        return answer._replace(
            headers={**answer.headers, "date": formatdate(WALL + 60, usegmt=True)}, body=json.dumps(body).encode()
        )
