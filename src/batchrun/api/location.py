"""Where the files of a batch live.

Jobs cost money, so every batch is kept: without `out` its files are in a folder of `./.batchrun/` named after its rows
and the settings that enter their bodies, and the same call finds it there again. The service is no part of the name:
the same rows with another address or key are the same batch, which refuses to resume elsewhere; a new one would pay
again because a variable was unset. Demo batches have folders of their own, so that a simulated batch can then be run
for real.

A file is known by its path and not by its content, so that rows that are appended to it run in the same batch.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

from batchrun.api.rows import lines_of, path_of
from batchrun.core.text.readable import visible
from batchrun.results.run_errors import FilesError, InputError

FOLDER = ".batchrun"


@dataclass(slots=True)
class Location:
    """The output and the input of a batch. `close` removes what was not to be kept."""

    output: str
    input: str | int
    kept: bool = True
    named: bool = True  # by the caller, and not after its content
    _rows: IO[bytes] | None = None
    _temporary: str | None = None

    @property
    def path(self) -> Path | None:
        """The output; None where nothing is kept."""
        return Path(self.output) if self.kept else None

    def close(self) -> None:
        """Remove the copy of the rows, and the whole folder of a batch that keeps nothing."""
        if self._rows is not None:
            self._rows.close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
        elif not self.named:
            with contextlib.suppress(OSError):
                Path(self.output).parent.rmdir()  # of a batch that was refused; any other folder is not empty


async def location_of(rows: Any, out: Any, enters: Any, *, demo: bool) -> Location:
    """The location of a batch. `rows` is None where there are none yet; `enters` are the settings that enter bodies.

    Raises InputError, FilesError.
    """
    path = None if rows is None else path_of(rows)
    _refuse_no_output(out)
    if rows is None and out is None:
        raise InputError(
            'out: a batch that is opened without rows has no content to be named after; give out="out.jsonl", or out=False'
        )
    digest = blake2b(json.dumps(enters, sort_keys=True).encode(), digest_size=6, person=b"batchrun")
    if path is not None:
        digest.update(os.fsencode(Path(path).resolve()))  # noqa: ASYNC240 - resolves links, reads nothing
        source: str | int = path
        file, name = None, os.path.basename(path)  # noqa: PTH119 - a name, however odd
    else:
        file, count = await _spooled(rows, digest)
        source, name = file.fileno(), f"{count}-row{'' if count == 1 else 's'}"
    try:
        if out is False:
            folder = tempfile.mkdtemp(prefix="batchrun-")
            return Location(f"{folder}/out.jsonl", source, kept=False, _rows=file, _temporary=folder)
        if out is not None:
            return Location(os.fspath(out), source, _rows=file)
        folder = _folder(f"{'demo-' if demo else ''}{name}-{digest.hexdigest()}")
    except BaseException:
        if file is not None:
            file.close()
        raise
    return Location(f"{folder}/out.jsonl", source, named=False, _rows=file)


def _refuse_no_output(out: Any) -> None:
    """Refuse an `out` that names no file, before anything is written next to it."""
    if out is True:
        raise InputError(
            "out: expected a path, False or nothing, got True; leave it out to keep the batch in .batchrun/"
        )
    if out is None or out is False:
        return
    if not isinstance(out, str | os.PathLike):
        raise InputError(f"out: expected a path, False or nothing, got {type(out).__name__}; give a path")
    if out in ("", "-"):
        why = "; the command's standard output has no meaning here" if out else ""
        raise InputError(
            f"out: expected a path, False or nothing, got {out!r}{why}; give a path, or False to keep nothing"
        )
    if os.path.isdir(out):  # noqa: PTH112 - a slash at the end means a folder
        raise InputError(f"out: expected a file, got the folder {visible(os.fsdecode(out), 200)}; give a file in it")


async def _spooled(rows: Any, digest: Any) -> tuple[IO[bytes], int]:
    """The rows in a file without a name, at its beginning, and their number."""
    file = tempfile.TemporaryFile(prefix="batchrun-")  # noqa: SIM115 - open as long as the batch
    count = 0
    try:
        if rows is not None:
            async for line in lines_of(rows):
                digest.update(b"%d:" % len(line) + line)
                file.write(line + b"\n")
                count += 1
        file.flush()
        file.seek(0)
    except OSError as error:
        file.close()
        raise FilesError(
            f"cannot keep the rows in a temporary file: {error.strerror}; make room, or set TMPDIR"
        ) from error
    except BaseException:
        file.close()
        raise
    return file, count


def _folder(name: str) -> str:
    """The folder of that name below `.batchrun`: private, and ignored by git."""
    try:
        top = Path(FOLDER)
        top.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(top / ".gitignore", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write("*\n")
        (top / name).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise FilesError(f"cannot make {FOLDER}/{name}: {error.strerror}; give a file with out=") from error
    return f"{FOLDER}/{name}"
