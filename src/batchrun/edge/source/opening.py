"""What the user named as input, opened: a file, a pipe, standard input; plain, gzip or zstd.

The first bytes tell the compression, not the name: names lie, and a pipe has none. An input that is not
read to its end as what it is is refused as a whole, because rows that fall away unseen are worse than none.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from batchrun.core.settings.usage_error import Refusal
from batchrun.core.text.printable import visible
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
        raise InputRefused(f"{name} is empty, not even compressed: it was cut off, copy it again")
    return OpenInput(fd, name, status.st_size if regular else None, head)


def refuse_other_encodings(head: bytes, name: str) -> None:
    """Refuse what is not UTF-8 by its first bytes, naming what was seen."""
    for mark, encoding in _WIDE.items():
        if head.startswith(mark):
            raise InputRefused(f"expected UTF-8 in {name}, came {encoding}: iconv -f {encoding[:6]} -t UTF-8")


def _refuse_special(status: os.stat_result, name: str, *, named: bool) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        raise InputRefused(f"{name} is a folder: name a file in it")
    if named and kind not in (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK):
        raise InputRefused(f"{name} is a device: name a file, a pipe, or - for standard input")


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
            raise InputChanged(f"{name} was cut while it was read: expected {size:,} bytes, came {at:,}")
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
