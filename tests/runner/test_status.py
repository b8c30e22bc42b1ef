"""Looks at real files: each reads what is new, none changes anything, and nothing half written is misread."""

import os
from pathlib import Path
from zlib import crc32

import orjson
import pytest

from batchrun.core.journal.entries import Done, Header, Intent, Rewritten, Started, Stopped, Submitted, frame, mark
from batchrun.core.settings.settings import UsageError
from batchrun.core.status.status import BatchStage, RunState
from batchrun.edge.append_file import FileNames, FileRefused, rewrite
from batchrun.edge.lock import Lock
from batchrun.runner import status as room
from batchrun.runner.opening.damage import refuse_damage, survey
from batchrun.runner.opening.read import fold_file, recovered
from batchrun.runner.status import StatusReader

NOW = 1_800_000_000.0
HEADER = Header(1, "run", "demo", "demo", "", "", {}, "in.jsonl", NOW)


class Files:
    """The files of a batch, as its run writes them."""

    def __init__(self, folder):
        self.folder = folder
        self.names = FileNames.of(folder / "out.jsonl")
        self.opened = []
        self.begin()

    def begin(self):
        self.journal = self.path("journal").open("ab", 0)
        self.output = self.path("output").open("ab", 0)
        self.opened += [self.journal, self.output]

    def close(self):
        for file in self.opened:
            file.close()

    def path(self, file):
        return Path(getattr(self.names, file))

    def tell(self, *entries):
        end = self.journal.seek(0, os.SEEK_END)
        self.journal.write((mark(end) if end else b"") + b"".join(entry.to_line() for entry in entries))

    def send(self, *keys):
        self.tell(*(Intent(key, 1, "0" * 32, NOW) for key in keys))
        self.tell(*(Submitted(key, 1, f"resp_{key}", NOW) for key in keys))

    def finish(self, *keys, marked=True):
        for key in keys:
            line = orjson.dumps({"custom_id": key, "state": "succeeded", "error": None, "finished_at": None}) + b"\n"
            start = self.output.seek(0, os.SEEK_END)
            self.output.write(line)
            if marked:
                self.tell(Done(key, 0, start, len(line), crc32(line), "succeeded"))

    def contents(self):
        """Everything in the folder that a look could change."""
        found = {}
        for path in sorted(self.folder.iterdir()):
            status = path.lstat()
            found[path.name] = (
                path.read_bytes(),
                status.st_ino,
                status.st_mode,
                status.st_mtime_ns,
                status.st_ctime_ns,
            )
        return found


@pytest.fixture
def files(tmp_path):
    found = Files(tmp_path)
    found.tell(HEADER, Started(os.getpid(), NOW - 60, 10))
    yield found
    found.close()


@pytest.fixture
def lookout(files):
    found = StatusReader(files.names)
    yield found
    found.close()


def seen(lookout):
    found = lookout.look(NOW)
    return found.done, found.jobs, found.stages.get(BatchStage.WAITING)


def refusal(act):
    with pytest.raises(FileRefused) as caught:
        act()
    return str(caught.value)


def test_a_look_reads_what_is_new_and_changes_nothing(files, lookout, monkeypatch):
    files.send("a", "b", "c")
    files.finish("a")
    before = files.contents()
    assert seen(lookout) == (1, 2, 7)
    assert files.contents() == before
    monkeypatch.setattr(room, "read_header", None)  # to begin anew would call it
    files.finish("b", marked=False)
    files.send("d")
    assert seen(lookout) == (2, 2, 6)
    assert seen(lookout) == (2, 2, 6)


def test_it_makes_no_file_where_there_is_no_batch(tmp_path):
    lookout = StatusReader(FileNames.of(tmp_path / "out.jsonl"))
    with pytest.raises(UsageError, match="there is no batch here; run one with batchrun INPUT -o"):
        lookout.look(NOW)
    (tmp_path / "out.jsonl.journal").write_bytes(HEADER.to_line()[:-1])
    with pytest.raises(UsageError, match="no batch here"):
        lookout.look(NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl.journal"]


@pytest.mark.parametrize("file", ["journal", "output"])
def test_a_line_without_its_end_is_not_there_yet(file, files, lookout):
    files.send("a", "b")
    files.finish("a")
    tape = getattr(files, file)
    line = Stopped("SIGINT", NOW).to_line() if file == "journal" else b'{"custom_id":"b","state":"succeeded"}\n'
    told = seen(lookout)
    for cut in (1, 8, len(line) - 1):
        tape.write(line[:cut])
        assert seen(lookout) == told
        assert lookout.look(NOW).run.state is RunState.LOST
        newcomer = StatusReader(files.names)
        assert seen(newcomer) == told, "nor for someone who comes just now"
        newcomer.close()
        tape.truncate(tape.seek(0, os.SEEK_END) - cut)
    tape.write(line)
    assert lookout.look(NOW).run.state is (RunState.STOPPED if file == "journal" else RunState.LOST)
    assert lookout.look(NOW).done == (1 if file == "journal" else 2)


def test_records_are_counted_up_to_where_the_journal_is_known(files, lookout, monkeypatch):
    """A record that is written while the journal is read belongs to a row of which nothing is known yet."""
    real, rounds = room._Growing.lines, []

    def lines(self, end=None):
        yield from real(self, end)
        if end is None and not rounds:
            rounds.append(self)
            files.send("z")
            files.finish("z", marked=False)

    monkeypatch.setattr(room._Growing, "lines", lines)
    assert seen(lookout) == (0, 0, 10)
    assert seen(lookout) == (1, 0, 9)


def test_while_it_takes_long_to_read_more_has_come(files, lookout, monkeypatch):
    times = iter(range(100))
    monkeypatch.setattr(room.time, "monotonic", lambda: float(next(times)))
    real = room.StatusReader._read

    def read(self, now):
        real(self, now)
        files.finish(f"r{now}")

    monkeypatch.setattr(room.StatusReader, "_read", read)
    assert lookout.look(NOW).done == 4, "and it ends, however slow"


def test_an_output_that_is_not_there_yet(files, lookout):
    files.path("output").unlink()
    assert seen(lookout) == (0, 0, 10)
    files.begin()
    files.finish("a")
    assert seen(lookout) == (1, 0, 9)


# --- files that are replaced or cut ---


def test_after_a_rewriting_all_is_read_anew(files, lookout):
    files.send("a", "b")
    files.finish("a", "b")
    assert seen(lookout) == (2, 0, 8)
    kept = files.path("output").read_bytes().splitlines(keepends=True)[:1]
    journal = [HEADER, Done("a", 1, 0, len(kept[0]), crc32(kept[0]), "succeeded"), Intent("b", 1, "0" * 32, NOW)]
    journal += [Submitted("b", 1, "resp_b", NOW), Rewritten(1, 2, 0), Started(1, NOW, 10)]
    rewrite(files.names, announce=None, output=kept, journal=[entry.to_line() for entry in journal])
    assert seen(lookout) == (1, 1, 8)


def test_between_two_renames_nobody_is_alarmed(files, lookout):
    """The output is the new one, the journal still the old one, which announces it."""
    files.send("a", "b")
    files.finish("a", "b")
    seen(lookout)
    files.journal.write(mark(files.journal.seek(0, os.SEEK_END)) + frame(b'{"rewrite":{"gen":1,"keys":{}}}'))
    shorter = files.path("output").read_bytes().splitlines(keepends=True)[:1]
    new = files.folder / "new"
    new.write_bytes(shorter[0])
    new.rename(files.path("output"))
    found = lookout.look(NOW)
    assert (found.done, found.gone, found.rewriting) == (1, 0, True)


def test_a_torn_tail_that_is_cut_and_written_anew(files, lookout):
    files.send("a")
    end = files.journal.seek(0, os.SEEK_END)
    files.journal.write(b"\0" * 200 + b"\n")
    assert seen(lookout) == (0, 1, 9)
    files.journal.truncate(end)
    files.send("b")
    files.finish("a")
    assert seen(lookout) == (1, 1, 8)
    start = files.output.seek(0, os.SEEK_END)
    files.output.write(b"\0" * 10 + b"\n")
    assert seen(lookout) == (1, 1, 8), "the torn tail of an output is no record"
    files.output.truncate(start)
    files.finish("b")
    assert seen(lookout) == (2, 0, 8)


@pytest.mark.parametrize("file", ["journal", "output"])
def test_lines_that_a_failing_run_took_back(file, files, lookout):
    files.send("a", "b")
    files.finish("a", marked=False)
    tape = getattr(files, file)
    end = tape.seek(0, os.SEEK_END)
    if file == "journal":
        files.tell(Stopped("SIGINT", NOW))
    else:
        files.finish("b", marked=False)
    seen(lookout)
    tape.truncate(end)
    assert seen(lookout) == (1, 1, 8)
    assert lookout.look(NOW).run.state is RunState.LOST


@pytest.mark.parametrize("how", ["deleted", "cut"])
def test_o03_rows_whose_records_are_gone_are_told(how, files, lookout):
    files.send("a", "b", "c")
    files.finish("a", "b")
    if how == "deleted":
        files.path("output").unlink()
    else:
        files.output.truncate(files.output.seek(0, os.SEEK_END) - 3)
    found = lookout.look(NOW)
    lost = 2 if how == "deleted" else 1
    assert (found.gone, found.done, found.jobs, found.stages[BatchStage.WAITING]) == (lost, 2 - lost, 1 + lost, 7)


def test_a_batch_that_is_begun_afresh(files, lookout):
    files.send("a")
    files.finish("a")
    assert seen(lookout)[0] == 1
    for file in ("journal", "output"):
        files.path(file).rename(files.folder / f"{file}.old")
    with pytest.raises(UsageError, match="no batch here"):
        lookout.look(NOW)
    files.begin()
    files.tell(HEADER, Started(1, NOW, 3))
    assert seen(lookout) == (0, 0, 3)


# --- what a run would refuse ---


def a_run_says(names):
    state = fold_file(names.journal)
    return refusal(lambda: refuse_damage(names, survey(names, state, recovered(names, state)), None))


@pytest.mark.parametrize("file", ["journal", "output"])
def test_o14_damage_is_told_in_the_words_of_a_run(file, files, lookout):
    files.send("a", "b")
    files.finish("a", "b")
    files.send("c")
    tape = getattr(files, file)
    data = bytearray(files.path(file).read_bytes())
    data[len(data) // 2 if file == "journal" else 5] ^= 1
    tape.truncate(0)
    tape.write(data)
    told = refusal(lambda: lookout.look(NOW))
    assert told == a_run_says(files.names)
    assert "it is damaged at byte" in told
    assert "--repair" in told


def test_o15_a_journal_of_a_newer_version_is_refused(files, lookout):
    files.journal.truncate(0)
    files.journal.write(frame(b'{"header":{"version":2}}'))
    assert "it has version 2, this batchrun reads version 1" in refusal(lambda: lookout.look(NOW))


@pytest.mark.parametrize("file", ["journal", "output", "lock"])
def test_o04_links_are_not_followed(file, files, lookout):
    path, elsewhere = files.path(file), files.folder / "elsewhere"
    if path.exists():
        path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert "found a symbolic link" in refusal(lambda: lookout.look(NOW))


# --- the run ---


def test_a_run_is_on_while_it_holds_the_lock(files, lookout):
    held = Lock.take(files.names.lock)
    found = lookout.look(NOW)
    assert (found.run.state, found.run.process) == (RunState.RUNNING, os.getpid())
    held.release()
    assert lookout.look(NOW).run.state is RunState.LOST
