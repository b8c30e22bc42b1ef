"""What the user named as input, opened: a file, a pipe, standard input; plain, gzip or zstd.

The first bytes tell the compression, not the name: names lie, and a pipe has none. An input that is not
read to its end as what it is is refused as a whole, because rows that fall away unseen are worse than none.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import io
import os
import re
import secrets
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from batchrun.core.settings.settings import Refusal
from batchrun.core.text.readable import visible
from batchrun.version import install

BLOCK = 1 << 16
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_WIDE = {  # byte order marks first, then an object or a list in ASCII
    b"\xff\xfe\x00\x00": "UTF-32 (little endian)",
    b"\x00\x00\xfe\xff": "UTF-32 (big endian)",
    b"\xff\xfe": "UTF-16 (little endian)",
    b"\xfe\xff": "UTF-16 (big endian)",
    b"{\x00\x00\x00": "UTF-32 (little endian)",
    b"\x00\x00\x00{": "UTF-32 (big endian)",
    b"{\x00": "UTF-16 (little endian)",
    b"\x00{": "UTF-16 (big endian)",
}


# Why an input cannot be used as a whole. These end a run (exit code 2, the spool's 4); nothing is lost by them.


class InputFileError(Refusal):
    """The input cannot be used."""


class InputRefused(InputFileError):
    """It cannot be opened, or not be read as JSON lines. Nothing was sent."""


class InputCutOff(InputRefused):
    """Its compressed data end or break in the middle."""


class LineWithoutEnd(InputRefused):
    """A line of an input that has to be copied is so long that reading it to its end may take for ever."""


class InputChanged(InputFileError):
    """It is no longer what the check saw. Jobs that were sent keep running; rows that were read stay good."""


class SpoolFailed(Refusal):
    """The copy of an input that cannot seek could not be written."""


class _Reads(Protocol):
    def read1(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class OpenInput:
    """An open input. `size` is None where it cannot seek; `name` is safe to show."""

    fd: int
    name: str
    size: int | None
    head: bytes

    @property
    def must_spool(self) -> bool:
        """Whether rows cannot be read again where they are."""
        return self.size is None or self.head.startswith((_GZIP, _ZSTD))

    def blocks(self) -> Iterator[bytes]:
        """The bytes of the input, decompressed; the first block has four bytes or is all there is."""
        if not self.must_spool:
            yield from _file(self.fd, self.name, self.size or 0)
            return
        stream, damage = self._stream()
        first = b""
        while block := _read(stream, self.name, damage):
            if len(first) < len(_ZSTD):
                first = block = first + block
                if len(first) < len(_ZSTD):
                    continue
            yield block
        if 0 < len(first) < len(_ZSTD):
            yield first

    def _stream(self) -> tuple[_Reads, tuple[type[Exception], ...]]:
        """What to read from, and how it says that it is damaged."""
        raw = io.BufferedReader(_FromHead(self.fd, self.head if self.size is None else b""), BLOCK)
        if self.head.startswith(_GZIP):
            return gzip.GzipFile(fileobj=raw), (gzip.BadGzipFile, zlib.error)
        return _zstd(raw, self.name) if self.head.startswith(_ZSTD) else (raw, ())


def open_input(path: str | os.PathLike[str] | int) -> OpenInput:
    """Open the input for reading; `-` and descriptors cannot seek, whatever they are."""
    given = 0 if path == "-" else path
    named = not isinstance(given, int)
    name = "standard input" if isinstance(given, int) else visible(os.fspath(given), 200)
    fd = -1
    try:
        fd = os.dup(given) if isinstance(given, int) else os.open(given, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(fd)
        _refuse_special(status, name, named=named)
        regular = named and stat.S_ISREG(status.st_mode)
        head = os.pread(fd, len(_ZSTD), 0) if regular else _head(fd)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise InputRefused(f"cannot read {name}: {_reason(error)}") from error
    except InputRefused:
        os.close(fd)
        raise
    if named and not head and name.endswith((".gz", ".zst")):
        os.close(fd)
        raise InputRefused(f"{name} is empty, not even compressed: it was cut off; copy it again")
    return OpenInput(fd, name, status.st_size if regular else None, head)


def refuse_other_encodings(head: bytes, name: str) -> None:
    """Refuse what is not UTF-8 by its first bytes, naming what was seen."""
    for mark, encoding in _WIDE.items():
        if head.startswith(mark):
            raise InputRefused(f"expected UTF-8 in {name}, got {encoding}: iconv -f {encoding[:6]} -t UTF-8")


def _refuse_special(status: os.stat_result, name: str, *, named: bool) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        raise InputRefused(f"{name} is a folder: give a file in it")
    if named and kind not in (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK):
        raise InputRefused(f"{name} is a device: give a file, a pipe, or - for standard input")


def _head(fd: int) -> bytes:
    head = b""
    while len(head) < len(_ZSTD) and (more := os.read(fd, len(_ZSTD) - len(head))):
        head += more
    return head


def _file(fd: int, name: str, size: int) -> Iterator[bytes]:
    """A file up to the size that it had when it was opened: what is appended meanwhile is for the next run."""
    at = 0
    while at < size:
        block = os.pread(fd, min(BLOCK, size - at), at)
        if not block:
            raise InputChanged(f"{name} was cut while it was read: expected {size:,} bytes, got {at:,}")
        yield block
        at += len(block)


def _read(stream: _Reads, name: str, damage: tuple[type[Exception], ...]) -> bytes:
    try:
        return stream.read1(BLOCK)
    except EOFError as error:
        raise InputCutOff(f"{name} is cut off: copy it again") from error
    except damage as error:
        raise InputCutOff(f"{name} is damaged ({visible(str(error), 80)}): copy it again") from error
    except OSError as error:
        raise InputRefused(f"cannot read {name}: {_reason(error)}") from error


def _zstd(raw: io.BufferedReader[_FromHead], name: str) -> tuple[_Reads, tuple[type[Exception], ...]]:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd  # noqa: PLC0415 - an optional extra before 3.14
        else:
            from backports import zstd  # noqa: PLC0415
    except ImportError as error:
        raise InputRefused(f"{name} is compressed with zstd: {install('zst')}") from error
    return zstd.ZstdFile(raw), (zstd.ZstdError,)


def _reason(error: OSError) -> str:
    return (error.strerror or "it failed").lower()


class _FromHead(io.RawIOBase):
    """A descriptor; `head` was read from it already."""

    def __init__(self, fd: int, head: bytes) -> None:
        self._fd, self._head = fd, head

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override] # what BufferedReader gives
        data = self._head or os.read(self._fd, len(buffer))
        self._head = b""
        buffer[: len(data)] = data
        return len(data)


# The copy of an input that cannot seek: written while it is checked, kept under its name when the run begins.
# It grows under a name of its own, `NAME.<random>.new`, because the lock of the output is taken only after the check:
# a run that is refused there must not have touched the copy of the one that works. `keep`, under the lock, gives it
# its name, and takes away what died before it came so far. Who lives is told by a flock that each maker holds on its
# copy: a process id would mean nothing in another container. Without a name (a check alone) it is a file that nobody
# can find and that ends with us.


_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Spool:
    """An append file that can be read again at once; `fd` reads and writes."""

    def __init__(self, target: Path | None, *, sync: Callable[[int], None] = os.fsync) -> None:
        self.target = target
        self._sync = sync
        self._new: Path | None = None
        try:
            self.fd = self._open()
        except OSError as error:
            raise self._failed(error) from error

    def write(self, block: bytes) -> None:
        """Append all of `block`."""
        rest = memoryview(block)
        try:
            while rest:
                rest = rest[os.write(self.fd, rest) :]
        except OSError as error:
            raise self._failed(error) from error

    def keep(self) -> None:
        """Make the copy durable under its name; the lock of the output must be held.

        Standard input cannot be asked for its rows again.
        """
        if self.target is None or self._new is None:
            return
        try:
            self._sync(self.fd)
            if not _is_at(self._new, self.fd):
                raise SpoolFailed(
                    f"{visible(str(self._new), 200)} was removed by another program: run the same command again"
                )
            self._new.rename(self.target)
            self._new = None
            folder = os.open(self.target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._sync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._failed(error) from error
        with contextlib.suppress(OSError):  # what stays is removed another time
            _sweep(self.target)

    def close(self) -> None:
        """Give up the descriptor, and the copy if it was not kept."""
        if self._new is not None:
            with contextlib.suppress(OSError):
                if _is_at(self._new, self.fd):
                    self._new.unlink()
        os.close(self.fd)

    def _open(self) -> int:
        if self.target is None:
            with tempfile.TemporaryFile(prefix="batchrun-") as file:
                return os.dup(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(self.target.lstat().st_mode):
                raise SpoolFailed(f"{visible(str(self.target), 200)} is not a regular file: move it away")
        while True:
            new = self.target.with_name(f"{self.target.name}.{secrets.token_hex(4)}.new")
            try:
                fd = os.open(new, _FLAGS, 0o600)
            except FileExistsError:
                continue
            with contextlib.suppress(OSError):  # a file system without locks, where nothing is swept either
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(new, fd):
                self._new = new
                return fd
            os.close(fd)  # swept between the opening and the lock

    def _failed(self, error: OSError) -> SpoolFailed:
        where = "a temporary file" if self.target is None else visible(str(self.target), 200)
        return SpoolFailed(f"cannot keep the input in {where}: {(error.strerror or 'it failed').lower()}")


def _is_at(path: Path, fd: int) -> bool:
    """Whether `path` leads to the open file."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _sweep(target: Path) -> None:
    """Remove the copies for `target` whose makers are gone."""
    pattern = re.compile(re.escape(target.name) + r"\.[0-9a-f]{8}\.new")
    with os.scandir(target.parent) as entries:
        found = [Path(one.path) for one in entries if pattern.fullmatch(one.name)]
    for path in found:
        with contextlib.suppress(OSError):
            fd = os.open(path, _LOOK)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(path, fd) and stat.S_ISREG(os.fstat(fd).st_mode):
                    path.unlink()
            finally:
                os.close(fd)
