"""The folder of artifacts: what is refused, how a file comes into it, and the threads that write beside a loop."""

import asyncio
import errno
import os
import stat
import time
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256

import orjson
import pytest

from batchrun.core.records.artifacts import find
from batchrun.edge.append_file import REAL_DISK, FileRefused
from batchrun.edge.artifacts import PIECE, ArtifactWriter, Folder, JobFiles, open_folder
from tests.edge.paper_disk import Crash, PaperDisk

PNG = b"\x89PNG\r\n\x1a\n" + os.urandom(3 * PIECE // 2)


def answer(*images):
    body = orjson.dumps({"data": [{"b64_json": b64encode(image).decode()} for image in images]})
    return body, find(body, "row")[0]


def written(folder, *images):
    writing = JobFiles(folder, *answer(*images))
    writing.write()
    writing.publish()
    folder.sync()
    return writing.stored


def content(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


# --- opening ---


def test_a_folder_is_made_for_its_owner_alone_and_named_from_the_output(tmp_path):
    (tmp_path / "out").mkdir()
    folder = open_folder(str(tmp_path / "images/"), str(tmp_path / "out"))
    assert stat.S_IMODE((tmp_path / "images").stat().st_mode) == 0o700
    assert folder.shown == "../images"
    assert open_folder(str(tmp_path / "images"), str(tmp_path)).shown == "images"


def test_a_relative_folder_is_that_of_this_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = open_folder("images", str(tmp_path))
    assert (folder.path, folder.shown) == (str(tmp_path / "images"), "images")
    monkeypatch.chdir("/")
    written(folder, b"x")
    assert content(tmp_path / "images") == {"row-0.bin": b"x"}


@pytest.mark.parametrize("what", ["symlink", "symlink/", "file", "fifo", "missing/parent", "of the batch", b"\xff".decode("utf-8", "surrogateescape")])  # fmt: skip
def test_o04_what_is_no_folder_is_refused_with_one_next_step(tmp_path, what):
    path = tmp_path / what.rstrip("/")
    if what.startswith("symlink"):
        (tmp_path / "target").mkdir()
        path.symlink_to(tmp_path / "target")
    elif what == "file":
        path.write_text("x")
    elif what == "fifo":
        os.mkfifo(path)
    with pytest.raises(FileRefused) as refused:
        open_folder(f"{tmp_path}/{what}", str(tmp_path), forbidden=[str(tmp_path / "of the batch")])
    assert (what.rstrip("/") in str(refused.value), "; " in str(refused.value)) == (True, True)
    if what.startswith("symlink"):
        assert content(tmp_path / "target") == {}


# --- files ---


def test_files_are_private_whole_and_as_they_are_described(tmp_path):
    folder = open_folder(str(tmp_path / "f"), str(tmp_path))
    images = PNG, b"GIF89a", b"\xff\xd8\xff" + bytes(2 * PIECE), os.urandom(3 * PIECE // 4)
    stored = written(folder, *images)
    assert content(tmp_path / "f") == dict(
        zip(("row-0.png", "row-1.gif", "row-2.jpg", "row-3.bin"), images, strict=True)
    )
    assert [(one.size, one.sha256) for one in stored] == [(len(data), sha256(data).hexdigest()) for data in images]
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "f").iterdir()} == {0o600}


def test_what_stands_at_a_name_is_replaced_and_never_followed(tmp_path):
    folder = open_folder(str(tmp_path / "f"), str(tmp_path))
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "f" / ".row-0.bin.new").symlink_to(victim)
    (tmp_path / "f" / "row-0.bin").symlink_to(victim)
    os.link(victim, tmp_path / "f" / ".row-1.bin.new")
    written(folder, b"first", b"second")
    assert content(tmp_path / "f") == {"row-0.bin": b"first", "row-1.bin": b"second"}
    assert not (tmp_path / "f" / "row-0.bin").is_symlink()
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("at", [40, PIECE - 1, PIECE + 7])
def test_what_turns_out_to_be_no_base64_leaves_nothing(tmp_path, at):
    folder = open_folder(str(tmp_path / "f"), str(tmp_path))
    body, found = answer(PNG, b"good")
    place = found[0].start + 1 + at
    for bad in (b"*", b"="):
        broken = body[:place] + bad + body[place + 1 :]
        writing = JobFiles(folder, broken, find(broken, "row")[0])
        writing.write()
        writing.publish()
        assert [one is None for one in writing.stored] == [True, False]
        assert content(tmp_path / "f") == {"row-1.bin": b"good"}
        folder.remove(["row-1.bin", "never there"])


class Shelf(Folder):
    """A folder on a disk of paper, which has none."""

    def sync(self):
        self.disk.sync_folder(self.path)


def test_o07_o08_at_whatever_step_it_breaks_a_name_leads_to_a_whole_file_or_to_none():
    old, new = b"old" * 50, b"new" * 70
    for trouble in (OSError(errno.ENOSPC, "no space left"), Crash):
        for stop in range(1, 40):
            paper = PaperDisk({"/f/row-0.bin": old, "/f/.row-1.bin.new": b"half"}, stop=stop, trouble=trouble)
            folder = Shelf("/f", "f", (0, 0), paper.disk())
            writing = JobFiles(folder, *answer(new, new))
            try:
                writing.write()
                writing.publish()
                folder.sync()
            except (OSError, Crash):
                paper.stop = None
                if trouble is not Crash:
                    writing.undo()
                    assert not [path for path in paper.names if path.endswith(".new")]
                paper.power_cut(keep_name=lambda path, stop=stop: bool(stop % 2))
                assert paper.content()["/f/row-0.bin"] in (old, new)
                assert paper.content().get("/f/row-1.bin", new) == new
            else:
                assert stop > 8
                paper.power_cut()
                assert paper.content() == {"/f/row-0.bin": new, "/f/row-1.bin": new}
                break
        else:
            raise AssertionError("it never came through")


# --- beside a loop ---


def stored_by(folder, errands, *, busy=False):
    """The reports of `errands` in their order of arrival, all of them or as many as come within forty seconds."""

    async def main():
        loop = asyncio.get_running_loop()
        storer = ArtifactWriter(folder, loop)
        reports = []
        for number, errand in enumerate(errands):
            errand(storer, lambda result, number=number: reports.append((number, result)))
        end = time.monotonic() + 40
        while len(reports) < len(errands) and time.monotonic() < end:
            if busy:  # a loop that is never at rest, in rounds that are too short to give up the interpreter's lock
                spin = time.monotonic() + 0.0005
                while time.monotonic() < spin:
                    pass
            await asyncio.sleep(0 if busy else 0.005)
        storer.close()
        return reports

    return asyncio.run(main())


def storing(*images):
    return lambda storer, report: storer.store(*answer(*images), report)


@pytest.mark.parametrize("busy", [False, True])
def test_files_are_written_beside_a_loop_and_reported_in_it(tmp_path, busy):
    syncs = []
    disk = replace(REAL_DISK, sync_folder=syncs.append)
    folder = replace(open_folder(str(tmp_path / "f"), str(tmp_path)), disk=disk)
    named = [find(orjson.dumps({"data": [{"b64_json": "AAAA"}]}), f"row{n}")[0] for n in range(30)]
    body = answer(b"\0\0\0")[0]
    errands = [lambda storer, report, found=found: storer.store(body, found, report) for found in named]
    errands.append(lambda storer, report: storer.discard(["never there"], report))
    reports = stored_by(folder, errands, busy=busy)
    assert sorted(number for number, _ in reports) == list(range(31))
    assert {result for _, result in reports} == {(reports[0][1]), ()}
    assert sorted(content(tmp_path / "f")) == sorted(f"row{n}-0.bin" for n in range(30))
    assert 1 <= len(syncs) < 31, "many files share one sync of their folder"


def test_o07_o08_the_first_error_is_the_last_and_reported_to_all_later_ones(tmp_path):
    calls = []

    def sync(descriptor):
        calls.append(descriptor)
        if len(calls) > 1:
            raise OSError(errno.EIO, "disk on fire")

    folder = replace(open_folder(str(tmp_path / "f"), str(tmp_path)), disk=replace(REAL_DISK, sync=sync))

    async def main():
        storer = ArtifactWriter(folder, asyncio.get_running_loop())
        message = []
        for n in range(4):
            came = asyncio.Event()
            storer.store(*answer(b"%d" % n), lambda result, came=came: (message.append(result), came.set()))
            await asyncio.wait_for(came.wait(), 30)
        storer.close()
        return message

    first, *others = asyncio.run(main())
    assert first[0].size == 1
    assert len(set(others)) == 1
    assert "disk on fire" in others[0]
    assert len(calls) == 2, "a sync that failed is not tried again"
    assert content(tmp_path / "f") == {"row-0.bin": b"0"}


def test_o11_a_folder_that_was_replaced_is_noticed(tmp_path):
    folder = open_folder(str(tmp_path / "f"), str(tmp_path))
    (tmp_path / "f").rename(tmp_path / "moved")
    (tmp_path / "f").mkdir()
    ((_, message),) = stored_by(folder, [storing(b"x")])
    assert "another folder" in message


def test_what_waits_when_it_is_closed_is_left_and_nothing_more_is_reported(tmp_path):
    def sync(descriptor):  # the first one lasts until it is closed
        while not storer._closed:
            time.sleep(0.001)
        REAL_DISK.sync(descriptor)

    folder = replace(open_folder(str(tmp_path / "f"), str(tmp_path)), disk=replace(REAL_DISK, sync=sync))

    async def main():
        nonlocal storer
        storer = ArtifactWriter(folder, asyncio.get_running_loop())
        reports = []
        for n in range(200):
            body, _ = answer(bytes(PIECE))
            storer.store(body, find(body, f"row{n}")[0], reports.append)
        storer.close()
        await asyncio.sleep(0.05)
        return reports

    storer = None
    assert asyncio.run(main()) == []
    assert len(content(tmp_path / "f")) < 200
    assert not [name for name in content(tmp_path / "f") if name.endswith(".new")]
