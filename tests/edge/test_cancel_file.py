"""Wishes of other processes: safe when `wish` returns, read once, in order, complete lines only."""

import errno
import json
import stat
import threading
from dataclasses import replace

import pytest

from batchrun.edge import cancel_file as requests
from batchrun.edge.append_file import REAL_DISK, AppendFailed, FileRefused
from batchrun.edge.cancel_file import LINE_BYTES, CancelFile, append_request, cancel_request, withdraw_request


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.jsonl.requests"


def write(path, data):
    with path.open("ab") as file:
        file.write(data)


def test_requests_are_read_once_and_in_order(path):
    wishes = CancelFile(str(path))
    assert wishes.read_new() == []
    append_request(str(path), {"cancel": ["row-1"]})
    append_request(str(path), {"cancel": "all", "text": "a\nb\u2028c"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert wishes.read_new() == [{"cancel": ["row-1"]}, {"cancel": "all", "text": "a\nb\u2028c"}]
    assert (wishes.read_new(), wishes.offset) == ([], path.stat().st_size)
    append_request(str(path), {"n": 3})
    assert CancelFile(str(path), wishes.offset).read_new() == wishes.read_new() == [{"n": 3}]


def test_o12_a_torn_tail_waits_until_it_is_complete(path):
    wishes = CancelFile(str(path))
    write(path, b'{"n":1}\n{"n":')
    assert (wishes.read_new(), wishes.offset) == ([{"n": 1}], 8)
    assert wishes.read_new() == []
    write(path, b"2}\n")
    assert wishes.read_new() == [{"n": 2}]


@pytest.mark.parametrize("torn", [b'{"n":', b"\0" * 5000, b"x" * (LINE_BYTES * 2 + 7)], ids=["half", "zeros", "long"])
@pytest.mark.parametrize("before", [b"", b'{"n":1}\n'], ids=["alone", "after a line"])
def test_o13_a_tail_that_a_dead_writer_left_is_cut_by_the_next(path, before, torn):
    write(path, before + torn)
    wishes = CancelFile(str(path))
    wishes.read_new()
    append_request(str(path), {"n": 2})
    assert path.read_bytes() == before + b'{"n":2}\n'
    assert [read["n"] for read in CancelFile(str(path)).read_new()] == ([1, 2] if before else [2])


@pytest.mark.parametrize(
    "line",
    [b"[1]", b"1", b"{", b"", b"\xff", b"[" * 100_000, b"x" * (3 * LINE_BYTES)],
    ids=["list", "number", "broken", "empty", "not UTF-8", "deep", "long"],
)
def test_what_is_no_request_is_counted_and_skipped(path, line):
    write(path, b'{"n":1}\n' + line + b'\n{"n":2}\n')
    wishes = CancelFile(str(path))
    assert wishes.read_new() == [{"n": 1}, {"n": 2}]
    assert (wishes.unreadable, wishes.offset) == (1, path.stat().st_size)


def test_a_long_line_that_is_still_growing_is_not_kept(path):
    wishes = CancelFile(str(path))
    append_request(str(path), {"n": 1})
    assert wishes.read_new() == [{"n": 1}]
    for _ in range(3):
        write(path, b"x" * LINE_BYTES)
        assert wishes.read_new() == [], "neither of it, nor again of what stands before"
    write(path, b'\n{"n":2}\n')
    assert (wishes.read_new(), wishes.unreadable) == ([{"n": 2}], 1)


def test_a_request_that_is_too_long_is_refused_before_anything_is_written(path):
    with pytest.raises(ValueError, match="split it"):
        append_request(str(path), {"cancel": ["x" * LINE_BYTES]})
    assert not path.exists()


def test_a_file_started_again_is_read_from_its_start(path):
    wishes = CancelFile(str(path))
    append_request(str(path), {"n": 1})
    append_request(str(path), {"n": 2})
    wishes.read_new()
    path.rename(f"{path}.old")
    assert wishes.read_new() == []
    append_request(str(path), {"n": 3})
    append_request(str(path), {"n": 4})
    append_request(str(path), {"n": 5})
    assert [read["n"] for read in wishes.read_new()] == [3, 4, 5]


def test_a_file_started_again_between_two_runs_is_read_from_its_start_where_no_line_begins_at_the_old_offset(path):
    earlier = CancelFile(str(path))
    append_request(str(path), {"n": 1})
    earlier.read_new()
    path.rename(f"{path}.old")
    append_request(str(path), {"text": "longer than all that was read before"})
    append_request(str(path), {"n": 2})
    assert path.stat().st_size > earlier.offset, "its size alone does not tell"
    later = CancelFile(str(path), earlier.offset)
    assert later.read_new() == [{"text": "longer than all that was read before"}, {"n": 2}]
    assert later.unreadable == 0


def test_a_file_that_was_emptied_in_its_place_is_read_from_its_start(path):
    wishes = CancelFile(str(path))
    append_request(str(path), {"text": "longer than what follows"})
    wishes.read_new()
    path.write_bytes(b"")
    append_request(str(path), {"n": 1})
    assert wishes.read_new() == [{"n": 1}]


def test_who_requested_knows_the_offset_that_a_run_has_read_to_when_it_has_it(path):
    wishes = CancelFile(str(path))
    for n in range(3):
        after = append_request(str(path), {"n": n})
        assert wishes.offset < after
        assert wishes.read_new() == [{"n": n}]
        assert wishes.offset == after
    write(path, b'{"torn')
    assert append_request(str(path), {"n": 3}) == path.stat().st_size


@pytest.mark.parametrize("step", ["write", "sync"])
def test_o07_a_request_that_the_disk_did_not_keep_is_reported(path, monkeypatch, step):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    append_request(str(path), {"n": 1})
    disk = replace(REAL_DISK, **{step: fail})
    real = requests.open_append

    def opened(name):
        return replace(real(name), disk=disk)

    monkeypatch.setattr(requests, "open_append", opened)
    with pytest.raises(AppendFailed, match="No space left"):
        append_request(str(path), {"n": 2})
    monkeypatch.setattr(requests, "open_append", real)
    assert path.read_bytes() == b'{"n":1}\n'
    append_request(str(path), {"n": 3})
    assert CancelFile(str(path)).read_new() == [{"n": 1}, {"n": 3}]


def test_writers_that_come_together_lose_nothing(path):
    def many(who):
        for n in range(20):
            append_request(str(path), {"who": who, "n": n})

    threads = [threading.Thread(target=many, args=(who,)) for who in range(4)]
    wishes, read = CancelFile(str(path)), []
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        read += wishes.read_new()
    read += wishes.read_new()
    assert len(read) == 80
    for who in range(4):
        assert [found["n"] for found in read if found["who"] == who] == list(range(20))
    assert wishes.unreadable == 0
    assert len(path.read_text().splitlines()) == 80


def test_a_writer_that_waited_for_a_file_moved_aside_writes_to_the_new_one(path, monkeypatch):
    append_request(str(path), {"n": 1})
    real, calls = requests.fcntl.flock, []

    def flock(descriptor, how):
        calls.append(how)
        if len(calls) == 1:
            path.rename(f"{path}.old")
        real(descriptor, how)

    monkeypatch.setattr(requests.fcntl, "flock", flock)
    append_request(str(path), {"n": 2})
    assert (json.loads(path.read_text()), len(calls)) == ({"n": 2}, 2)


def test_a_line_that_another_writer_completes_while_one_waits_for_the_lock_is_not_cut(path, monkeypatch):
    write(path, b'{"n":1}\n{"n":')
    real = requests.fcntl.flock

    def flock(descriptor, how):
        write(path, b"2}\n")
        monkeypatch.undo()
        real(descriptor, how)

    monkeypatch.setattr(requests.fcntl, "flock", flock)
    assert append_request(str(path), {"n": 3}) == path.stat().st_size
    assert CancelFile(str(path)).read_new() == [{"n": 1}, {"n": 2}, {"n": 3}]


@pytest.mark.parametrize(
    "use",
    [lambda path: append_request(str(path), {}), lambda path: CancelFile(str(path)).read_new()],
    ids=["wish", "read"],
)
def test_o04_requests_that_are_no_regular_file_are_refused(path, use):
    path.symlink_to("/dev/null")
    with pytest.raises(FileRefused, match="a symbolic link"):
        use(path)


def test_a_request_is_taken_back_and_those_around_it_stay_where_they_are(tmp_path):
    path = str(tmp_path / "out.requests")
    requests = [cancel_request([name], "run", 1.0) for name in ("a", "bb", "c")]
    ends = [append_request(path, one) for one in requests]
    withdraw_request(path, requests[1], ends[1])
    later = CancelFile(path, ends[0])
    assert (later.read_new(), later.offset, later.unreadable) == ([{}, requests[2]], ends[2], 0)
    withdraw_request(path, requests[1], ends[1])  # once more: there is nothing to take back
    withdraw_request(path, requests[2], ends[2])
    assert CancelFile(path).read_new() == [requests[0], {}]
    withdraw_request(path, requests[0], ends[0])
    assert CancelFile(path).read_new() == [{}, {}]


def test_a_file_without_a_request_is_gone(tmp_path):
    path = tmp_path / "out.requests"
    request = cancel_request(None, "run", 1.0)
    withdraw_request(str(path), request, append_request(str(path), request))
    assert not path.exists()
    assert append_request(str(path), request) == path.stat().st_size
