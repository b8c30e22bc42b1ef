"""Damage in what was safely on the disk: refused with its place, repaired on request, and never paid for twice."""

import errno
from dataclasses import replace

import pytest

from batchrun.core.jobs.messages import Outcome
from batchrun.core.journal.entries import AttemptEnded, Cleared, Done, Intent, Submitted, mark
from batchrun.core.journal.fold import fold
from batchrun.edge.append_file import REAL_DISK, FileRefused, open_append
from batchrun.edge.source import InputRefused
from batchrun.runner.opening import open as startup
from batchrun.runner.opening import repair as repairing
from tests.runner.night import WALL, Night, row
from tests.runner.test_open import begun, refused, sha


@pytest.fixture
def night(tmp_path):
    night = Night(tmp_path)
    night.rows(*(row(key, key.upper()) for key in "abcd"))
    return night


def written(night, *entries):
    """A journal of these entries, all of them synced; where each line begins."""
    begun(night)
    data, places = night.journal.read_bytes(), []
    for entry in entries:
        places.append(len(data))
        data += entry.to_line()
    night.journal.write_bytes(data + mark(len(data)))
    return places


def flip(path, offset, bit=1):
    data = bytearray(path.read_bytes())
    data[offset] ^= bit
    path.write_bytes(data)


def entries_of(night):
    return fold(night.journal.read_bytes().splitlines(keepends=True))


def test_o14_a_flipped_bit_is_refused_with_its_offset_and_what_a_repair_would_cost(night):
    places = written(night, Intent("a", 1, sha(night, "a"), WALL), Submitted("a", 1, "resp_a", WALL))
    flip(night.journal, places[0] + 20)
    night.wire.jobs = {"resp_a": "A"}
    refused(night, FileRefused, f"byte {places[0]:,}", "--repair", "at most 1 row", "among 1", "--resubmit-unconfirmed")


def test_o14_repair_keeps_every_good_line_and_sends_nothing_that_may_have_been_sent(night):
    """The lost line is the intent of b, whose POST may have created a job: nothing else tells of it."""
    places = written(
        night,
        Intent("a", 1, sha(night, "a"), WALL),
        Intent("b", 1, sha(night, "b"), WALL),
        Submitted("a", 1, "resp_a", WALL),
        Intent("c", 1, sha(night, "c"), WALL),
        Cleared("c", 1, WALL),
        Intent("d", 1, sha(night, "d"), WALL),
        AttemptEnded("d", 1, "resp_d", "internal_error", "server_error", "unknown", WALL, WALL),
    )
    damaged = night.journal.read_bytes()[places[1] : places[2]]
    flip(night.journal, places[1] + 30)
    night.wire.jobs = {"resp_a": "A"}
    night.complete(repair=True)
    assert night.wire.posts == []
    assert night.states() == {"a": "succeeded", "b": "unconfirmed", "c": "unconfirmed", "d": "unconfirmed"}
    kept = night.journal.with_name("out.jsonl.journal.torn").read_bytes()
    assert len(kept) == len(damaged)
    assert kept[40:] == damaged[40:]
    assert not entries_of(night).corrupt
    night.complete()
    assert night.wire.posts == []


def test_o14_repair_sends_them_where_that_was_asked_for(night):
    places = written(night, Intent("a", 1, sha(night, "a"), WALL), Submitted("a", 1, "resp_a", WALL))
    flip(night.journal, places[0] + 20)
    night.wire.jobs = {"resp_a": "A"}
    night.complete(repair=True, resubmit_unconfirmed=True)
    assert sorted(night.wire.posts) == ["B", "C", "D"]
    assert set(night.states().values()) == {"succeeded"}


def test_what_a_repair_wrote_is_known_to_be_safe_and_nothing_beyond_it(night):
    """Else damage of it would be taken for a torn tail and cut off, and a torn tail for damage."""
    places = written(
        night,
        Intent("a", 1, sha(night, "a"), WALL),
        Intent("b", 1, sha(night, "b"), WALL),
        Submitted("b", 1, "resp_b", WALL),
    )
    with night.journal.open("ab") as file:  # a second mark, so that one of them stands in the middle
        file.write(Submitted("a", 1, "resp_a", WALL).to_line())
        file.write(mark(night.journal.stat().st_size))
    flip(night.journal, places[1] + 30)
    night.open(repair=True)
    night.close()
    lines = night.journal.read_bytes().splitlines(keepends=True)
    marks = [(sum(map(len, lines[:i])), line) for i, line in enumerate(lines) if b'{"synced"' in line]
    assert marks == [(sum(map(len, lines[:-1])), lines[-1])]
    assert lines[-1] == mark(marks[0][0])
    assert entries_of(night).synced_to == marks[0][0]


def test_o14_a_lost_intent_of_a_row_that_has_other_entries_puts_no_other_row_under_suspicion(night):
    night.run(limit=1)
    lines = night.journal.read_bytes().splitlines(keepends=True)
    place = sum(map(len, lines[: next(i for i, line in enumerate(lines) if b'{"intent"' in line)]))
    flip(night.journal, place + 20)
    assert "neither record" not in refused(night, FileRefused, f"byte {place:,}")
    night.complete(repair=True)
    assert sorted(night.wire.posts) == list("ABCD")
    assert night.states() == dict.fromkeys("abcd", "succeeded")


def test_a_lost_mark_can_have_held_no_intent_and_costs_nothing(night):
    places = written(night, Intent("a", 1, sha(night, "a"), WALL), Submitted("a", 1, "resp_a", WALL))
    data = night.journal.read_bytes()
    first = data[: places[0]]
    lost = mark(len(first))
    data = first + lost + data[places[0] : data.rindex(mark(len(data) - len(mark(len(data)))))]
    night.journal.write_bytes(data + mark(len(data)))
    flip(night.journal, len(first) + 12)
    night.wire.jobs = {"resp_a": "A"}
    assert "neither record" not in refused(night, FileRefused, f"byte {len(first):,}")
    night.complete(repair=True)
    assert sorted(night.wire.posts) == ["B", "C", "D"]


def test_a_lost_submit_leaves_its_row_unconfirmed(night):
    places = written(
        night,
        *(Intent(key, 1, sha(night, key), WALL) for key in "abcd"),
        *(Submitted(key, 1, f"resp_{key}", WALL) for key in "abcd"),
    )
    flip(night.journal, places[5] + 30)
    night.wire.jobs = {f"resp_{key}": key.upper() for key in "abcd"}
    night.complete(repair=True)
    assert night.wire.posts == []
    assert {key for key, state in night.states().items() if state == "unconfirmed"} == {"b"}


def test_any_flipped_bit_leads_to_no_second_post(night):
    """Every byte of a journal, one bit each: refused or harmless; after --repair nothing is sent that has a job."""
    night.complete()
    whole = night.journal.read_bytes()
    header = whole.index(b"\n") + 1
    posts = len(night.wire.posts)
    last_mark = entries_of(night).synced_to - 1  # the line feed before the mark is read as part of it
    for offset in range(header, len(whole), 23):
        night.journal.write_bytes(whole)
        flip(night.journal, offset, 1 << offset % 8)
        if offset < last_mark:
            with pytest.raises(FileRefused, match="damaged at byte"):
                night.open()
        batch = night.open(repair=True)
        assert set(batch.finished) == set("abcd")
        night.close()
    night.journal.write_bytes(whole)
    night.complete()
    assert len(night.wire.posts) == posts


def test_f07_a_repair_is_refused_for_a_row_behind_the_damage_that_was_sent_with_another_body(night):
    places = written(
        night,
        Intent("a", 1, sha(night, "a"), WALL),
        Submitted("a", 1, "resp_a", WALL),
        Intent("b", 1, sha(night, "b"), WALL),
        Submitted("b", 1, "resp_b", WALL),
    )
    flip(night.journal, places[0] + 20)
    night.rows(row("a", "A"), row("b", "other"), row("c", "C"), row("d", "D"))
    refused(night, InputRefused, "line 2", "--accept-changes", repair=True)


def test_a_repair_needs_the_input_where_an_intent_may_be_lost(night):
    places = written(night, Intent("a", 1, sha(night, "a"), WALL), Submitted("a", 1, "resp_a", WALL))
    flip(night.journal, places[0] + 20)
    said = refused(night, FileRefused, f"byte {places[0]:,}", path="collect", repair=True)
    typed = (
        f"batchrun {night.folder}/in.jsonl -o {night.output} --service compatible --base-url {night.base_url} --repair"
    )
    assert said.endswith(typed)


def test_a_damaged_record_is_refused_then_left_out_and_fetched_again(night):
    night.complete()
    lines = night.output.read_bytes().splitlines(keepends=True)
    flip(night.output, len(lines[0]))  # the brace that begins the second record
    refused(night, FileRefused, f"byte {len(lines[0]):,}", "out.jsonl", "--repair")
    night.complete(repair=True)
    assert set(night.states()) == set("abcd")
    assert len(night.wire.posts) == 4
    assert len(night.output.with_name("out.jsonl.torn").read_bytes()) == len(lines[1])


def test_o19_a_repair_that_was_killed_is_done_again(night, monkeypatch):
    places = written(night, Intent("a", 1, sha(night, "a"), WALL), Submitted("a", 1, "resp_a", WALL))
    flip(night.journal, places[0] + 20)
    before = night.journal.read_bytes()
    night.wire.jobs = {"resp_a": "A"}

    def killed(*_, **__):
        raise KeyboardInterrupt

    real = repairing.rewrite
    monkeypatch.setattr(repairing, "rewrite", killed)
    with pytest.raises(KeyboardInterrupt):
        night.open(repair=True)
    assert night.journal.read_bytes() == before
    monkeypatch.setattr(repairing, "rewrite", real)
    night.complete(repair=True)
    assert sorted(night.wire.posts) == ["C", "D"]
    assert night.states() == {"a": "succeeded", "b": "unconfirmed", "c": "succeeded", "d": "succeeded"}


@pytest.mark.parametrize("room", range(200, 5_000, 400))
def test_o07_a_full_disk_ends_the_run_and_the_next_one_completes_it(night, monkeypatch, room):
    """`room` bytes fit on the disk, for both files together."""
    left = room

    def write(descriptor, data):
        nonlocal left
        taken = min(left, len(data))
        left -= taken
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        return REAL_DISK.write(descriptor, data[:taken])

    begun(night)
    disk = replace(REAL_DISK, write=write)
    monkeypatch.setattr(startup, "open_append", lambda path: open_append(path, disk))
    outcome = night.run()
    sent = len(night.wire.posts)
    assert outcome is (Outcome.COMPLETE if left else Outcome.WRITE_FAILED)
    assert sent <= 4
    left = 1 << 30
    night.complete()
    assert set(night.states()) == set("abcd")
    unconfirmed = sum(state == "unconfirmed" for state in night.states().values())
    assert len(night.wire.posts) == len(set(night.wire.posts)) >= 4 - unconfirmed


def test_a_journal_older_than_the_output_is_refused_as_its_rows_would_be_paid_again(night):
    begun(night)
    older = night.journal.read_bytes()
    night.complete()
    newer, records = night.journal.read_bytes(), night.output.read_bytes()
    night.journal.write_bytes(older)
    refused(
        night, FileRefused, "does not know 4 rows that have a record", "older than the output", "put the newer journal back",
        "--new-journal",
    )  # fmt: skip
    assert (night.journal.read_bytes(), night.output.read_bytes()) == (older, records)
    night.journal.write_bytes(newer)
    night.complete()
    assert len(night.wire.posts) == 4


def test_a_new_journal_knows_the_records_that_it_was_begun_with(night):
    night.complete()
    night.journal.unlink()
    night.rows(*(row(key, key.upper()) for key in "abcdef"))
    night.complete(new_journal=True)
    night.complete()
    assert sorted(night.wire.posts) == list("ABCDEF")


def test_a_row_of_which_repair_left_nothing_but_its_record_is_known_afterwards(night):
    night.complete()
    lines = night.journal.read_bytes().splitlines(keepends=True)
    for i, line in enumerate(lines):
        if b'"key":"b"' in line:
            lines[i] = b"x" + line[1:]
    night.journal.write_bytes(b"".join(lines) + mark(sum(map(len, lines))))
    night.complete(repair=True)
    night.complete()
    assert sorted(night.wire.posts) == list("ABCD")
    assert night.states() == dict.fromkeys("abcd", "succeeded")


@pytest.mark.parametrize("junk", [b"\n", b"junk\n", b"\xef\xbb\xbf"], ids=["a blank line", "a line", "four bytes"])
def test_o14_an_output_that_was_changed_by_hand_is_damaged_and_not_torn(night, junk):
    """Whatever stands behind moved; the journal's markers know it by its bytes."""
    night.complete()
    lines = night.output.read_bytes().splitlines(keepends=True)
    place = len(lines[0])
    changed = b"".join([lines[0], junk, *lines[1:]])
    night.output.write_bytes(changed)
    refused(night, FileRefused, f"it is damaged at byte {place:,}", "--repair leaves the damaged lines out")
    assert night.output.read_bytes() == changed
    night.complete(repair=True)
    assert night.states() == dict.fromkeys("abcd", "succeeded")
    assert sorted(night.wire.posts) == list("ABCD")
    assert night.output.read_bytes().count(b"\n") == 4


def test_o03_a_finished_row_without_a_job_id_whose_record_is_gone_is_never_sent_again(night):
    written(night, Intent("a", 1, sha(night, "a"), WALL), Done("a", 0, 0, 10, 1, "succeeded"))
    for given in ({"limit": 1}, {"limit": 1, "resubmit_unconfirmed": True}):
        night.run(**given)
        assert night.states()["a"] == "expired"
    assert "A" not in night.wire.posts
