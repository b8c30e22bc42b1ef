"""A new generation of output and journal, a tail that is cut, a batch that is moved aside: interrupted anywhere.

The disk is one of paper that ends the process at any step, as a kill or as a power cut that keeps any part of
what was not synced, names in any order; then the next process does what it would do.
"""

import errno
import itertools
import os
import random
import stat
from contextlib import nullcontext
from pathlib import Path

import pytest

from batchrun.edge.append_file import (
    REAL_DISK,
    AppendFailed,
    FileNames,
    FileRefused,
    cut_torn,
    open_append,
    read_chunks,
    rewrite,
    set_aside,
)
from tests.edge.paper_disk import Crash, PaperDisk

NAMES = FileNames.of("/d/out", "/j/journal")
OLD = {NAMES.output: b"keep 1\ndrop 2\nkeep 3\n", NAMES.journal: b"gen 1\nabout 1\nabout 2\n"}
ANNOUNCED = {**OLD, NAMES.journal: OLD[NAMES.journal] + b"rewrite\n"}
NEW = {NAMES.output: b"keep 1\nkeep 3\n", NAMES.journal: b"gen 2\nabout 1\n"}
HALF = {NAMES.output: NEW[NAMES.output], NAMES.journal: ANNOUNCED[NAMES.journal]}


def lines_of(path, disk):
    file = open_append(path, disk)
    data = b"".join(read_chunks(file))
    file.close()
    return data.splitlines(keepends=True)


def do(disk, announce):
    """The operation as its user calls it: the new output is made of the old one while it is asked for."""
    rewrite(
        NAMES,
        announce=announce,
        output=(line for line in lines_of(NAMES.output, disk) if line.startswith(b"keep")),
        journal=itertools.chain([b"gen 2\n"], [b"about 1\n"]),
        disk=disk,
    )


def next_run(paper):
    """Cut what is torn, then look into the journal for what was going on."""
    disk = paper.disk()
    journal = paper.content()[NAMES.journal]
    cut_torn(NAMES.journal, journal.rfind(b"\n") + 1, disk)
    journal = paper.content()[NAMES.journal]
    if not journal.startswith(b"gen 2\n"):
        do(disk, None if b"rewrite\n" in journal else b"rewrite\n")


def generations(paper):
    content = paper.content()
    journal = content[NAMES.journal]
    whole = journal[: journal.rfind(b"\n") + 1]  # as the next run sees it
    return {NAMES.output: content[NAMES.output], NAMES.journal: whole}


def test_it_replaces_both_and_says_so_first():
    paper = PaperDisk(OLD)
    do(paper.disk(), b"rewrite\n")
    assert paper.content() == NEW
    paper.power_cut()
    assert paper.content() == NEW
    assert paper.open_files == {}


def steps_of(operation, files):
    paper = PaperDisk(files)
    operation(paper)
    return paper.steps


@pytest.mark.parametrize("crash", ["kill", "power cut"])
def test_o19_interrupted_at_any_step_it_is_done_again_to_the_same_end(crash):
    count = steps_of(lambda paper: do(paper.disk(), b"rewrite\n"), OLD)
    met = set()
    for stop in range(1, count + 1):
        for seed in range(1 if crash == "kill" else 30):
            rng = random.Random(stop * 1000 + seed)
            paper = PaperDisk(OLD, stop=stop)
            with pytest.raises(Crash):
                do(paper.disk(), b"rewrite\n")
            if crash == "kill":
                paper.kill()
            else:
                paper.power_cut(
                    lambda unsynced, rng=rng: unsynced[: rng.randint(0, len(unsynced))],
                    lambda _, rng=rng: rng.random() < 0.5,
                )
            found = generations(paper)
            assert found in (OLD, ANNOUNCED, HALF, NEW), f"step {stop}, seed {seed}"
            met.add([OLD, ANNOUNCED, HALF, NEW].index(found))
            next_run(paper)
            for path, data in NEW.items():
                assert paper.content()[path] == data, f"step {stop}, seed {seed}"
            assert not any(path.endswith(".new") for path in paper.content())
    assert met >= {0, 1, 2}, "every stage was met"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
def test_o07_a_disk_that_fails_at_any_step_leaves_what_the_next_run_completes(number):
    count = steps_of(lambda paper: do(paper.disk(), b"rewrite\n"), OLD)
    for stop in range(1, count + 1):
        paper = PaperDisk(OLD, stop=stop, trouble=OSError(number, os.strerror(number)))
        with pytest.raises((FileRefused, AppendFailed)):
            do(paper.disk(), b"rewrite\n")
        assert paper.open_files == {}, f"step {stop}"
        assert generations(paper) in (OLD, ANNOUNCED, HALF, NEW)
        next_run(paper)
        assert paper.content() == NEW, f"step {stop}"


def test_a_second_crash_while_it_is_done_again():
    count = steps_of(lambda paper: do(paper.disk(), b"rewrite\n"), OLD)
    for first, second in itertools.product(range(1, count + 1), repeat=2):
        paper = PaperDisk(OLD, stop=first)
        with pytest.raises(Crash):
            do(paper.disk(), b"rewrite\n")
        paper.power_cut(lambda unsynced: unsynced[: len(unsynced) // 2])
        paper.steps, paper.stop = 0, second
        try:
            next_run(paper)
        except Crash:
            paper.kill()
            next_run(paper)
        assert {path: paper.content()[path] for path in NEW} == NEW, f"steps {first}, {second}"


def test_the_journal_alone_can_be_rewritten(tmp_path):
    names = FileNames.of(None, tmp_path / "journal")
    rewrite(names, announce=None, output=None, journal=[b"gen 2\n"])
    assert stat.S_IMODE(Path(names.journal).stat().st_mode) == 0o600
    assert lines_of(names.journal, REAL_DISK) == [b"gen 2\n"]


def test_large_content_is_written_in_pieces_and_leftovers_are_removed(tmp_path):
    names = FileNames.of(tmp_path / "out")
    (tmp_path / "out.new").write_bytes(b"leftover")
    (tmp_path / "out.journal.new").symlink_to("/etc/passwd")
    line = b"x" * 100_000 + b"\n"
    rewrite(names, announce=b"rewrite\n", output=itertools.repeat(line, 50), journal=[])
    assert (tmp_path / "out").read_bytes() == line * 50
    assert (tmp_path / "out.journal").read_bytes() == b""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.journal"]


def test_the_mark_stands_before_the_announcement(tmp_path):
    names = FileNames.of(tmp_path / "out")
    (tmp_path / "out.journal").write_bytes(b"gen 1\n")

    def content():
        yield (tmp_path / "out.journal").read_bytes()

    rewrite(names, announce=b"rewrite\n", output=None, journal=content(), mark=lambda to: b"synced %d\n" % to)
    assert (tmp_path / "out.journal").read_bytes() == b"gen 1\nsynced 6\nrewrite\nsynced 23\n"


@pytest.mark.parametrize(
    "tail", [b'{"half":', b"\0" * 4096, b"bad\nlines\n", b"x" * 3_000_000], ids=["torn", "zeroed", "lines", "large"]
)
def test_o12_o13_a_tail_is_kept_then_cut(tmp_path, tail):
    path, torn = tmp_path / "out", tmp_path / "out.torn"
    path.write_bytes(b"good\n" + tail)
    assert cut_torn(str(path), 5) == len(tail)
    ended = tail if tail.endswith(b"\n") else tail + b"\n"
    assert (path.read_bytes(), torn.read_bytes()) == (b"good\n", ended)
    assert stat.S_IMODE(torn.stat().st_mode) == 0o600
    path.write_bytes(b"good\nmore\nte")
    assert cut_torn(str(path), 10) == 2
    assert torn.read_bytes() == ended + b"te\n"
    assert (cut_torn(str(path), 10), cut_torn(str(tmp_path / "none"), 0)) == (0, 0)


def test_o12_o19_a_cut_that_is_interrupted_loses_nothing():
    path, whole = "/d/out", b"good\ntail that is torn"
    count = steps_of(lambda paper: cut_torn(path, 5, paper.disk()), {path: whole})
    for stop, how in itertools.product(range(1, count + 2), ["kill", "power cut", "power cut, short files stay"]):
        paper = PaperDisk({path: whole}, stop=stop)
        with pytest.raises(Crash) if stop <= count else nullcontext():
            cut_torn(path, 5, paper.disk())
        if how == "kill":
            paper.kill()
        else:
            paper.power_cut(keep_cuts="short" in how)
        content = paper.content()
        if stop > count:
            assert content[path] == b"good\n", "a cut that returned is safe"
        assert content[path] == whole or b"tail that is torn" in content[path + ".torn"], f"step {stop}"
        cut_torn(path, 5, paper.disk())
        assert paper.content()[path] == b"good\n"
        assert b"tail that is torn\n" in paper.content()[path + ".torn"]


def test_o12_a_tail_that_cannot_be_kept_is_not_cut(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"good\ntorn")
    (tmp_path / "out.torn").mkdir()
    with pytest.raises(FileRefused, match=r"out\.torn.*a folder"):
        cut_torn(str(path), 5)
    assert path.read_bytes() == b"good\ntorn"


WALL = 1_800_000_000.0


def test_a_batch_is_moved_aside_and_nothing_is_overwritten(tmp_path):
    names = FileNames.of(tmp_path / "out")
    for round_ in (b"first", b"second", b"third"):
        for path in (names.output, names.journal, names.requests, names.output + ".torn"):
            Path(path).write_bytes(round_)
        Path(names.unreadable).mkdir()
        Path(names.lock).touch()
        moved = set_aside(names, WALL)
        assert moved[0][0] == names.journal, "an output without a journal is refused; the other way round costs"
        assert sorted(path.name for path in tmp_path.iterdir() if "." not in path.name) == []
    date = "2027-01-15T080000Z"
    assert {(tmp_path / f"out.{date}{end}").read_bytes() for end in ("", "-2", "-3")} == {b"first", b"second", b"third"}
    assert (tmp_path / f"out.journal.{date}-2").read_bytes() == b"second"
    assert (tmp_path / f"out.unreadable.{date}-3").is_dir()
    assert (tmp_path / "out.lock").exists()
    assert set_aside(names, WALL) == []


def test_what_was_moved_aside_stays_so_after_a_power_cut():
    """Or an old output would stand beside a new journal, and its records be taken for those of the new batch."""
    files = {NAMES.output: b"records\n", NAMES.journal: b"entries\n"}
    paper = PaperDisk(files)
    moved = set_aside(NAMES, WALL, paper.disk())
    paper.power_cut()
    assert paper.content() == {new: files[old] for old, new in moved}


def test_moving_aside_that_is_interrupted_is_gone_on_with():
    files = {NAMES.output: b"records\n", NAMES.journal: b"entries\n", NAMES.requests: b"wishes\n"}
    count = steps_of(lambda paper: set_aside(NAMES, WALL, paper.disk()), files)
    for stop in range(1, count + 1):
        paper = PaperDisk(files, stop=stop)
        with pytest.raises(Crash):
            set_aside(NAMES, WALL, paper.disk())
        paper.kill()
        assert NAMES.journal not in paper.content() or NAMES.output in paper.content()
        set_aside(NAMES, WALL, paper.disk())
        assert sorted(paper.content().values()) == sorted(files.values())
        assert not files.keys() & paper.content().keys()
