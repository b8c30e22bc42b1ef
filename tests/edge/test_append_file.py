"""Group commit: what is reported is on the disk, once, in order; and the first error is the last."""

import errno
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.edge.append_file import REAL_DISK, AppendFailed, AppendFile, AppendFileClosed, open_append
from batchrun.edge.append_file.append_file import GROUP_BYTES
from tests.edge.paper_disk import PaperDisk

PATH = "/d/out.jsonl"


def mark(to):
    return b'synced{"to":%d}\n' % to


class Recorder:
    """An append file on a disk, with everything that it reported."""

    def __init__(self, disk, path=PATH, mark=None):
        self.synced = []
        self.failed = []
        self.wakes = 0
        self.file = AppendFile(
            open_append(str(path), disk),
            synced=self.synced.append,
            failed=self.failed.append,
            mark=mark,
            wake=self._wake,
        )

    def _wake(self):
        self.wakes += 1


@pytest.fixture
def paper():
    return PaperDisk()


@pytest.fixture
def recorder(paper):
    return Recorder(paper.disk())


def test_appends_cost_no_io_and_share_one_write_and_one_sync(paper, recorder):
    before = paper.steps
    assert [recorder.file.append(b"one\n"), recorder.file.append(b"two\n")] == [0, 4]
    assert (paper.steps, recorder.wakes, recorder.file.synced_to, recorder.file.end) == (before, 1, 0, 8)
    assert recorder.file.commit()
    assert (paper.log["write"], paper.log["sync"], recorder.synced, recorder.file.synced_to) == (1, 1, [8], 8)
    assert paper.content() == {PATH: b"one\ntwo\n"}
    assert not recorder.file.commit()


def test_what_gathers_while_a_sync_runs_is_the_next_group(recorder):
    recorder.file.append(b"one\n")
    group = recorder.file.gather()
    group.write()
    assert recorder.file.append(b"two\n") == 4
    assert recorder.file.gather() is None, "one group at a time"
    group.sync()
    assert recorder.synced == []
    recorder.file.settle(group)
    assert (recorder.synced, recorder.wakes, recorder.file.synced_to, recorder.file.end) == ([4], 2, 4, 8)
    recorder.file.settle(group)
    assert recorder.synced == [4], "reported once"
    recorder.file.commit()
    assert recorder.synced == [4, 8]


def test_each_group_begins_with_the_mark_of_what_is_synced_before_it(paper):
    recorder = Recorder(paper.disk(), mark=mark)
    first = len(mark(0))
    assert recorder.file.append(b"a\n") == first
    group = recorder.file.gather()
    second = first + 2
    assert recorder.file.append(b"b\n") == second + len(mark(second))
    group.write()
    group.sync()
    recorder.file.settle(group)
    recorder.file.commit()
    assert paper.content()[PATH] == mark(0) + b"a\n" + mark(second) + b"b\n"


def test_lazy_lines_go_with_the_next_group_and_start_none(paper, recorder):
    recorder.file.append_lazily(b"done\n")
    assert (recorder.wakes, recorder.file.commit(), recorder.file.synced_to) == (0, False, 0)
    recorder.file.append(b"intent\n")
    assert (recorder.wakes, recorder.file.commit(), recorder.synced) == (1, True, [12])
    recorder.file.append_lazily(b"done\n")
    recorder.file.flush()
    assert (recorder.wakes, recorder.file.commit(), recorder.synced) == (2, True, [12, 17])
    recorder.file.append_lazily(b"done\n")
    recorder.file.close()
    assert recorder.synced == [12, 17, 22]
    assert paper.open_files == {}


def test_a_group_is_bounded_and_a_full_one_does_not_wait(paper):
    recorder = Recorder(paper.disk(), mark=mark)
    line = b"x" * (GROUP_BYTES // 2) + b"\n"
    for _ in range(4):
        recorder.file.append_lazily(line)
    assert recorder.wakes == 1
    while recorder.file.commit():
        pass
    assert len(recorder.synced) == 3, "each but the last is full"
    recorder.file.close()
    sizes = [len(mark(to)) + len(line) for to in (0, *recorder.synced[:3])]
    assert recorder.synced == [sum(sizes[: i + 1]) for i in range(4)]


@pytest.mark.parametrize("line", [b"", b"no line feed", b"two\nlines\n", b"\n\n"])
def test_what_is_no_line_is_refused(recorder, line):
    with pytest.raises(ValueError, match="one line with its line feed"):
        recorder.file.append(line)
    assert (recorder.file.end, recorder.wakes) == (0, 0)


def test_existing_content_is_synced_before_anything_is_built_on_it():
    paper = PaperDisk({PATH: b"one\n"})
    paper.names[PATH].data += b"two\n"  # by a process that was killed before it could sync
    recorder = Recorder(paper.disk(), mark=mark)
    assert paper.names[PATH].durable == b"one\ntwo\n"
    assert recorder.file.append(b"three\n") == 8 + len(mark(8))


def test_a_new_name_is_synced_with_its_folder(paper):
    Recorder(paper.disk())
    paper.power_cut()
    assert paper.content() == {PATH: b""}


def test_o07_short_writes_are_gone_on_with(tmp_path):
    disk = replace(REAL_DISK, write=lambda fd, data: os.write(fd, data[:3]))
    recorder = Recorder(disk, tmp_path / "out")
    recorder.file.append(b"a line of more than three bytes\n")
    assert recorder.file.commit()
    assert (tmp_path / "out").read_bytes() == b"a line of more than three bytes\n"


class Broken:
    """`name` of the disk fails from its `first` call on, `times` times; every call is counted."""

    def __init__(self, name, first, times=1, error=errno.EIO):
        self.calls = 0

        def call(*args):
            self.calls += 1
            if first <= self.calls < first + times:
                if name == "write":
                    os.write(args[0], args[1][: len(args[1]) // 2])
                raise OSError(error, os.strerror(error))
            return getattr(REAL_DISK, name)(*args)

        self.disk = replace(REAL_DISK, **{name: call})


@pytest.mark.parametrize("times", [1, 10**6], ids=["once", "for ever"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize("step", ["write", "sync"])
def test_o08_the_first_error_is_the_last(tmp_path, step, error, times):
    path = tmp_path / "out"
    broken = Broken(step, 2, times, error)
    syncs = []
    counted = replace(broken.disk, sync=lambda fd: syncs.append(1)) if step == "write" else broken.disk
    recorder = Recorder(counted, path, mark=mark)
    recorder.file.append(b"good\n")
    assert recorder.file.commit()
    good = path.read_bytes()
    recorder.file.append(b"bad\n")
    recorder.file.append(b"worse\n")
    assert not recorder.file.commit()
    assert path.read_bytes() == good, "cut back to where it was known to be good"
    assert recorder.synced == [len(good)]
    (failure,) = recorder.failed
    assert (failure.step, failure.offset, failure.lost) == (step, len(good), len(mark(len(good))) + 10)
    assert failure.cause.errno == error
    assert str(path) in str(failure)
    assert "run the same command again" in str(failure)
    for append in (recorder.file.append, recorder.file.append_lazily):
        with pytest.raises(AppendFailed, match=os.strerror(error)):
            append(b"more\n")
    assert recorder.file.gather() is None
    recorder.file.close()
    assert broken.calls == 2, "neither write nor sync is tried again"
    assert syncs == [1] * (1 if step == "write" else 0), "and nothing is synced after a failed write"
    assert (len(recorder.failed), recorder.wakes) == (1, 2)


def test_o08_a_file_that_cannot_even_be_cut_back_is_left(tmp_path):
    def refuse(*_):
        raise OSError(errno.EIO, "gone")

    recorder = Recorder(replace(REAL_DISK, sync=refuse, truncate=refuse), tmp_path / "out")
    recorder.file.append(b"bad\n")
    recorder.file.commit()
    assert [failure.step for failure in recorder.failed] == ["sync"]


def test_a_write_that_takes_nothing_and_names_no_error_ends(tmp_path):
    recorder = Recorder(replace(REAL_DISK, write=lambda *_: 0), tmp_path / "out")
    recorder.file.append(b"bad\n")
    recorder.file.commit()
    assert "took no byte" in str(recorder.failed[0])


def test_o08_an_error_that_the_operating_system_does_not_know_is_as_fatal(tmp_path):
    def explode(*_):
        raise MemoryError

    recorder = Recorder(replace(REAL_DISK, write=explode), tmp_path / "out")
    recorder.file.append(b"bad\n")
    assert not recorder.file.commit()
    assert isinstance(recorder.failed[0].cause, MemoryError)


@pytest.mark.parametrize("how", ["replaced", "removed"])
@pytest.mark.parametrize("when", ["before a group", "before the end"])
def test_o11_an_output_that_was_replaced_is_noticed(tmp_path, how, when):
    path = tmp_path / "out"
    recorder = Recorder(REAL_DISK, path)
    recorder.file.append(b"one\n")
    recorder.file.commit()
    path.unlink()
    if how == "replaced":
        path.write_bytes(b"mine\n")
    if when == "before a group":
        recorder.file.append(b"two\n")
        assert not recorder.file.commit()
    recorder.file.close()
    (failure,) = recorder.failed
    assert (failure.step, recorder.synced) == ("replaced", [4])
    if how == "replaced":
        assert path.read_bytes() == b"mine\n", "a file that is not ours is not touched"


@pytest.mark.parametrize("when", ["while it is open", "with a group under way", "before the end"])
def test_an_output_that_was_cut_is_noticed(tmp_path, when):
    path = tmp_path / "out"
    recorder = Recorder(REAL_DISK, path)
    recorder.file.append(b"one\n")
    recorder.file.commit()
    recorder.file.check_length()
    assert not recorder.failed
    os.truncate(path, 1)
    if when == "with a group under way":
        recorder.file.append(b"two\n")
        group = recorder.file.gather()
        recorder.file.check_length()
        group.write()
        group.sync()
        recorder.file.settle(group)
    if when == "while it is open":
        recorder.file.check_length()
        recorder.file.check_length()
    recorder.file.close()
    (failure,) = recorder.failed
    assert (failure.step, recorder.synced) == ("cut", [4])
    assert "expected to find all that was written up to offset 4, but: it holds 1 byte:" in str(failure)


def test_after_the_end_nothing_is_taken_and_nothing_reported(paper, recorder):
    recorder.file.append(b"one\n")
    group = recorder.file.gather()
    recorder.file.append(b"two\n")
    recorder.file.abandon()
    group.write()
    group.sync()
    recorder.file.settle(group)
    assert (recorder.synced, paper.content()[PATH]) == ([], b"one\n")
    assert len(paper.open_files) == 1
    group.close_file()
    with pytest.raises(AppendFileClosed):
        recorder.file.append(b"more\n")
    recorder.file.close()
    recorder.file.abandon()
    assert paper.open_files == {}


def test_a_report_that_raises_does_not_stop_the_file(paper):
    def broken_report(_):
        raise LookupError

    wakes = []
    file = AppendFile(
        open_append(PATH, paper.disk()), synced=broken_report, failed=broken_report, wake=lambda: wakes.append(1)
    )
    file.append(b"one\n")
    group = file.gather()
    file.append(b"two\n")
    group.write()
    group.sync()
    with pytest.raises(LookupError):
        file.settle(group)
    assert (file.synced_to, len(wakes)) == (4, 2)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["append", "append_lazily"]), st.binary(max_size=8).map(lambda b: b.replace(b"\n", b"") + b"\n")),
        st.tuples(st.sampled_from(["gather", "write", "sync", "settle", "flush", "commit"]), st.none()),
    ),
    max_size=60,
)  # fmt: skip


@given(STEPS, st.booleans(), st.integers(0, 12), st.sampled_from(["finish", "kill", "power cut"]), st.data())
def test_whatever_the_interleaving_the_reports_are_true(steps, marked, old, end, data):
    paper = PaperDisk({PATH: b"o" * old + b"\n"} if old else {})
    recorder = Recorder(paper.disk(), mark=mark if marked else None)
    expected = [(0, bytes(paper.names[PATH].data))]
    file, group, done = recorder.file, None, 0
    for name, line in steps:
        if line is not None:
            expected.append((getattr(file, name)(line), line))
        elif name in ("flush", "commit"):
            getattr(file, name)()
        elif name == "gather":
            if (taken := file.gather()) is not None:
                assert group is None
                group, done = taken, 0
        elif group is not None and done == ("write", "sync", "settle").index(name):
            if name == "settle":
                file.settle(group)
                group = None
            else:
                getattr(group, name)()
                done += 1
        assert not recorder.failed
        assert recorder.synced == sorted(set(recorder.synced)), "each group is reported once, in order"
        upto = recorder.synced[-1] if recorder.synced else old + 1 if old else 0
        durable = paper.names[PATH].durable
        for offset, text in expected:
            if offset < upto:
                assert durable[offset : offset + len(text)] == text, "reported, so it is durable"
    if end == "finish":
        if group is not None:
            for step in (group.write, group.sync)[done:]:
                step()
            file.settle(group)
        file.close()
        content = paper.content()[PATH]
        assert recorder.synced[-1:] == ([file.end] if len(expected) > 1 else [])
        last = mark(file.end) if marked and len(expected) > 1 else b""
        assert paper.names[PATH].durable + last == content, "it ends with a mark, which nothing waits for"
    elif end == "power cut":
        paper.power_cut(lambda unsynced: unsynced[: data.draw(st.integers(0, len(unsynced)))])
    content = paper.content()[PATH]
    for offset, text in expected:
        there = content[offset : offset + len(text)]
        assert text.startswith(there), "a prefix of what was appended, at its place"
    if marked:
        for found in content[old + 1 if old else 0 :].split(b"synced")[1:]:
            if found.startswith(b'{"to":') and b"}" in found:
                assert int(found[6 : found.index(b"}")]) <= len(paper.names[PATH].durable)
