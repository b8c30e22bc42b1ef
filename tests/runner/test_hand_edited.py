"""What somebody did to journal or output with an editor or another program: the place of it, and what a repair makes of it."""

import json

import pytest

from batchrun.core.journal.entries import AttemptEnded, Cleared, Intent, Submitted, mark
from batchrun.core.journal.fold import fold
from batchrun.edge.append_file import FileRefused
from batchrun.runner.status import StatusReader
from tests.runner.night import WALL, Night, row
from tests.runner.test_open import begun, refused, sha


@pytest.fixture
def night(tmp_path):
    night = Night(tmp_path)
    night.rows(*(row(key, key.upper()) for key in "abcd"))
    return night


def in_groups(night, *groups):
    """A journal of these groups of entries, each with its mark, and a mark at the end; where each line begins."""
    begun(night)
    data, places = night.journal.read_bytes(), []
    for group in groups:
        data += mark(len(data))
        for entry in group:
            places.append(len(data))
            data += entry.to_line()
    night.journal.write_bytes(data + mark(len(data)))
    return places


def intents(night, keys):
    return [Intent(key, 1, sha(night, key), WALL) for key in keys]


def submits(keys):
    return [Submitted(key, 1, f"resp_{key}", WALL) for key in keys]


def edited(path, edit):
    lines = path.read_bytes().splitlines(keepends=True)
    edit(lines)
    path.write_bytes(b"".join(lines))


def number_of(path, *words):
    lines = path.read_bytes().splitlines()
    return next(n for n, line in enumerate(lines) if all(word.encode() in line for word in words))


# --- the journal ---


def test_o25_a_line_that_was_removed_is_refused_with_its_place_and_only_rows_that_it_can_have_held_are_unconfirmed(
    night,
):
    in_groups(night, intents(night, "abc"), submits("ac"))
    night.wire.jobs = {"resp_a": "A", "resp_c": "C"}
    edited(night.journal, lambda lines: lines.pop(number_of(night.journal, '"intent"', '"b"')))
    size = len(Intent("b", 1, sha(night, "b"), WALL).to_line())
    before = night.snapshot()
    refused(
        night, FileRefused, "between byte", f"{size:,} bytes are missing", "--repair", "at most 1 row", "among 2",
    )  # fmt: skip
    assert night.snapshot() == before
    night.complete(repair=True)
    assert night.wire.posts == [], "d may be the row whose intent is lost"
    assert night.states() == {"a": "succeeded", "b": "unconfirmed", "c": "succeeded", "d": "unconfirmed"}


def test_o25_rows_behind_the_last_that_is_known_are_sent_where_the_missing_bytes_held_no_intent(night):
    in_groups(night, intents(night, "ab"), submits("ab"))
    night.wire.jobs = {"resp_a": "A", "resp_b": "B"}
    edited(night.journal, lambda lines: lines.pop(number_of(night.journal, '"submitted"', '"b"')))
    assert "without a trace" not in refused(night, FileRefused, "bytes are missing")
    night.complete(repair=True)
    assert sorted(night.wire.posts) == ["C", "D"]
    assert night.states() == {"a": "succeeded", "b": "unconfirmed", "c": "succeeded", "d": "succeeded"}


def test_o25_the_lost_intent_of_a_row_whose_job_is_known_costs_no_other_row_anything(night):
    in_groups(night, intents(night, "ab"), submits("ab"))
    night.wire.jobs = {"resp_a": "A", "resp_b": "B"}
    edited(night.journal, lambda lines: lines.pop(number_of(night.journal, '"intent"', '"a"')))
    refused(night, FileRefused, "bytes are missing")
    night.complete(repair=True)
    assert sorted(night.wire.posts) == ["C", "D"]
    assert night.states() == dict.fromkeys("abcd", "succeeded")


def test_o25_a_row_whose_retry_may_be_among_the_lost_lines_is_polled_and_not_retried(night):
    end = AttemptEnded("a", 1, "resp_a", "internal_error", "server_error", "unknown", WALL, WALL)
    in_groups(
        night, intents(night, "a"), submits("a"), [end, Intent("a", 2, sha(night, "a"), WALL)], intents(night, "bcd")
    )
    place = number_of(night.journal, '"ended"')
    edited(night.journal, lambda lines: lines.__delitem__(slice(place, place + 2)))
    refused(night, FileRefused, "bytes are missing")
    batch = night.open(repair=True)
    (row_of_a, journaled), *_ = batch.open_rows(night.source)
    assert (row_of_a.key, journaled.job_id, journaled.unconfirmed) == ("a", "resp_a", True)
    night.close()


def test_o25_the_lost_intent_of_a_retry_is_shorter_than_that_of_a_first_attempt(night):
    """It has no hash: its row is polled by its known job, and the retry is not sent a second time."""
    end = AttemptEnded("a", 1, "resp_a", "internal_error", "server_error", "unknown", WALL, WALL)
    in_groups(night, intents(night, "abcd"), submits("abcd"), [end], [Intent("a", 2, "", WALL)], [])
    edited(night.journal, lambda lines: lines.pop(number_of(night.journal, '"intent"', '"a","attempt":2')))
    refused(night, FileRefused, "bytes are missing", "at most 1 row")
    batch = night.open(repair=True)
    open_rows = {one.key: journaled for one, journaled in batch.open_rows(night.source)}
    assert [key for key, journaled in open_rows.items() if journaled.unconfirmed] == ["a"]
    night.close()


def test_o25_a_mark_that_stands_there_twice_puts_no_row_under_suspicion(night):
    in_groups(night, intents(night, "abc"), submits("ab"), submits("c"), [])
    night.wire.jobs = {f"resp_{key}": key.upper() for key in "abc"}
    lines = night.journal.read_bytes().splitlines(keepends=True)
    marks = [n for n, line in enumerate(lines) if b'"synced"' in line]
    for one in marks:
        for place in range(marks[0], len(lines) + 1):
            night.journal.write_bytes(b"".join([*lines[:place], lines[one], *lines[place:]]))
            batch = night.open(repair=True)
            rows = dict(batch.open_rows(night.source))
            assert {row.key for row, journaled in rows.items() if journaled.unconfirmed} == set(), (one, place)
            night.close()
            night.journal.with_name(night.journal.name + ".torn").unlink(missing_ok=True)


@pytest.mark.parametrize("kind", ["doubled", "moved", "added"])
def test_o25_a_line_too_many_or_elsewhere_is_refused_and_a_repair_loses_nothing(night, kind):
    in_groups(night, intents(night, "abcd"), submits("ab"), submits("cd"))
    night.wire.jobs = {f"resp_{key}": key.upper() for key in "abcd"}

    def edit(lines):
        first = number_of(night.journal, '"submitted"', '"a"')
        if kind == "moved":
            lines.insert(number_of(night.journal, '"submitted"', '"d"'), lines.pop(first))
        else:
            lines.insert(first - 2, lines[first] if kind == "doubled" else b"a note\n")

    edited(night.journal, edit)
    refused(night, FileRefused, "byte", "--repair")
    night.complete(repair=True)
    assert night.wire.posts == []
    assert night.states() == dict.fromkeys("abcd", "succeeded")
    night.complete()
    assert night.wire.posts == []


def test_o25_lines_of_a_row_in_another_order_are_refused_though_every_mark_fits_and_a_repair_reads_what_they_say(night):
    """Two intents of one length, in different groups: the one of a stands behind its id."""
    in_groups(
        night, intents(night, "a"), submits("a"), intents(night, "b"), submits("b"), intents(night, "cd"), submits("cd")
    )
    night.wire.jobs = {f"resp_{key}": key.upper() for key in "abcd"}
    one, other = (number_of(night.journal, '"intent"', f'"key":"{key}"') for key in "ab")

    def swap(lines):
        lines[one], lines[other] = lines[other], lines[one]

    edited(night.journal, swap)
    refused(night, FileRefused, "cannot follow on the earlier ones of row a", "byte", "--repair")
    night.complete(repair=True)
    assert night.wire.posts == []
    assert night.states() == dict.fromkeys("abcd", "succeeded")


def test_lines_that_are_cut_at_the_end_leave_no_trace(night):
    in_groups(night, intents(night, "ab"), submits("ab"))
    edited(night.journal, lambda lines: lines.__delitem__(slice(number_of(night.journal, '"submitted"', '"b"'), None)))
    night.wire.jobs = {"resp_a": "A"}
    night.complete()
    assert night.states()["b"] == "unconfirmed"


def test_o25_a_journal_that_was_closed_shows_what_its_last_group_lacks(night):
    night.complete()
    edited(night.journal, lambda lines: lines.pop(-2))
    refused(night, FileRefused, "bytes are missing")
    night.complete(repair=True)
    assert not fold(night.journal.read_bytes().splitlines(keepends=True)).corrupt
    assert len(night.wire.posts) == 4


# --- the output ---


@pytest.fixture
def half(night):
    """Two rows have their record, two are still to come."""
    night.run(limit=2)
    assert len(night.states()) == 2
    return night


def loosely(line):
    return json.dumps(json.loads(line)).encode() + b"\n"


def test_o26_an_output_in_another_order_is_the_same_output(half):
    half.output.write_bytes(b"".join(reversed(half.output.read_bytes().splitlines(keepends=True))))
    half.complete()
    assert sorted(half.wire.posts) == list("ABCD")
    assert not any("edited" in str(note) for note in half.batch.notes)


def test_o26_a_missing_line_is_fetched_again(half):
    edited(half.output, lambda lines: lines.pop(0))
    half.complete()
    assert sorted(half.wire.posts) == list("ABCD")
    assert half.states() == dict.fromkeys("abcd", "succeeded")


def test_o26_a_record_that_is_fetched_again_is_known_though_its_run_was_killed_before_its_marker(half):
    whole = half.output.read_bytes()
    edited(half.output, lambda lines: lines.pop(0))
    half.open()
    half.close()
    half.output.write_bytes(b"".join(map(loosely, whole.splitlines()[:1])) + half.output.read_bytes())  # another text
    half.complete()
    assert sorted(half.wire.posts) == list("ABCD")


CHANGES = {
    "a changed line": (lambda lines: lines.__setitem__(0, loosely(lines[0])), "not as it was written", 0),
    "a second line": (lambda lines: lines.append(lines[0]), "a further line of a row that has one", 1),
    "a second line, changed": (lambda lines: lines.insert(0, loosely(lines[0])), "a further line of a row", 1),
    "an unknown row": (
        lambda lines: lines.append(lines[0].replace(b'"custom_id":"', b'"custom_id":"un')),
        "the record of a job that is another row's",
        1,
    ),
    "an invented row": (
        lambda lines: lines.append(b'{"custom_id":"x","state":"succeeded","job_id":"resp_x"}\n'),
        "neither journal nor input has",
        1,
    ),
    "another row's job": (
        lambda lines: lines.append(lines[0].replace(f'"custom_id":"{key_of(lines[0])}"'.encode(), b'"custom_id":"d"')),
        "the record of a job that is another row's",
        1,
    ),
}


def key_of(line):
    return json.loads(line)["custom_id"]


@pytest.mark.parametrize(("edit", "told", "moved"), CHANGES.values(), ids=CHANGES.keys())
def test_o26_what_no_run_wrote_is_refused_before_anything_is_sent_and_repaired(half, edit, told, moved):
    edited(half.output, edit)
    before = half.snapshot()
    refused(half, FileRefused, "it was edited: the line at byte", told, "--repair")
    assert half.snapshot() == before
    assert len(half.wire.posts) == 2
    half.complete(repair=True)
    torn = half.output.with_name("out.jsonl.torn")
    assert (torn.read_bytes().count(b"\n") if torn.exists() else 0) == moved
    assert sorted(half.wire.posts) == list("ABCD")
    assert half.states() == dict.fromkeys("abcd", "succeeded")
    half.complete()
    assert not any("edited" in str(note) for note in half.batch.notes), "the changed line is known by now"


@pytest.mark.parametrize("given", [{}, {"retry_failed": ()}], ids=["as it is", "with records to replace"])
def test_o26_a_finished_batch_notes_it_and_is_left_as_it_is_unless_something_is_to_be_written(night, given):
    night.complete()
    edited(night.output, lambda lines: lines.__setitem__(0, loosely(lines[0])))
    before = night.output.read_bytes()
    if given:
        refused(night, FileRefused, "not as it was written", **given)
    else:
        night.complete()
        assert any("was edited: the line at byte 0" in str(note) for note in night.batch.notes)
    assert night.output.read_bytes() == before


def test_o26_status_notes_it_and_changes_nothing(half):
    reader = StatusReader(half.names)
    assert reader.look(WALL).edited is None
    reader.close()
    edited(half.output, lambda lines: lines.__setitem__(0, loosely(lines[0])))
    before = half.snapshot()
    reader = StatusReader(half.names)
    status = reader.look(WALL)
    assert (status.done, status.edited) == (2, reader.look(WALL).edited)
    assert "the line at byte 0, of row" in status.edited
    assert status.edited.endswith("is not as it was written")
    reader.close()
    assert half.snapshot() == before


def test_o26_a_record_of_a_job_that_the_journal_does_not_know_sends_its_row_no_more(night):
    """It may be of an attempt that an older journal does not know."""
    end = AttemptEnded("a", 1, "resp_a", "internal_error", "server_error", "unknown", WALL, WALL)
    in_groups(night, intents(night, "a"), submits("a"), [end])
    night.output.write_bytes(b'{"custom_id":"a","state":"succeeded","job_id":"resp_2"}\n')
    refused(night, FileRefused, "the record of another job than the journal's")
    night.complete(repair=True)
    assert sorted(night.wire.posts) == ["B", "C", "D"]
    assert night.states()["a"] == "unconfirmed"


def test_an_unmarked_record_counts_where_nothing_was_sent_for_its_row(night):
    in_groups(night, intents(night, "a"), [Cleared("a", 1, WALL)])
    night.output.write_bytes(b'{"custom_id":"a","state":"rejected","job_id":null,"billing":"not_billed"}\n')
    night.complete()
    assert sorted(night.wire.posts) == ["B", "C", "D"]
