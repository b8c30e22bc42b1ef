"""A disk of paper that can be copied in the middle of a run, and the ways in which a crash leaves it.

A kill leaves what the kernel was given; if it fell into a write, a part of that. A power cut leaves what was
synced, and of the rest nothing, its beginning, or any of its pages, the others zeroed; names that were not synced
are there or not, in any order; a file that was cut and not synced is short or long.
"""

import random
from zlib import crc32

from batchrun.edge.append_file import FileNames
from tests.edge.paper_disk import PaperDisk

PAGE = 64  # small, so that groups span pages
NAMES = FileNames.of("/d/out")
SHELF = "/d/files"
OUTPUT, JOURNAL = NAMES.output, NAMES.journal
assert OUTPUT is not None


def shelf(paper: PaperDisk) -> list[str]:
    """The paths of the files in the folder of artifacts."""
    return [path for path in paper.names if path.startswith(f"{SHELF}/")]


def names_on(paper: PaperDisk) -> list[str]:
    """Their names."""
    return [path.rpartition("/")[2] for path in shelf(paper)]


def copied(paper: PaperDisk) -> PaperDisk:
    """The same disk, for another process: nothing is open."""
    copy = PaperDisk()
    copy.inodes = paper.inodes
    twins: dict = {}
    for file in (*paper.names.values(), *paper.durable_names.values()):
        if file.number not in twins:
            twins[file.number] = twin = type(file)(file.number)
            twin.data[:] = file.data
            twin.durable, twin.mode = file.durable, file.mode
    copy.names = {path: twins[file.number] for path, file in paper.names.items()}
    copy.durable_names = {path: twins[file.number] for path, file in paper.durable_names.items()}
    return copy


def crash(paper: PaperDisk, way: str, rng: random.Random, *, writing: bool = False) -> None:
    """End the process that uses `paper`, as a kill or as a power cut. `writing`: what is not synced may be half written."""
    if way == "kill":
        if writing:
            for path in (JOURNAL, OUTPUT, *shelf(paper)):
                file = paper.names[path]
                unsynced = len(file.data) - len(file.durable)
                if unsynced > 0 and rng.random() < 0.5:
                    del file.data[len(file.durable) + rng.randrange(unsynced) :]
        paper.kill()
        return
    seed = rng.random()
    paper.power_cut(
        lambda unsynced: _kept(unsynced, random.Random(crc32(unsynced) + seed)),
        lambda path: random.Random(f"{path} {seed}").random() < 0.5,
        keep_cuts=rng.random() < 0.5,
    )


def _kept(unsynced: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return b""
    if kind == 1:
        return unsynced[: rng.randrange(len(unsynced) + 1)]
    first = rng.randrange(1, PAGE + 1)  # a group begins anywhere in its page
    pages = [unsynced[:first], *(unsynced[i : i + PAGE] for i in range(first, len(unsynced), PAGE))]
    return b"".join(bytes(len(page)) if rng.random() < 0.5 else page for page in pages)
