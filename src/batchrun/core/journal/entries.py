"""The journal's entries as bytes, and back.

A line is ``crc32hex SP json LF``. The CRC is compared as text, so that only its one spelling counts. The
entries are facts about rows and about the file itself; their order is the order in which they became true.
What they amount to is told in ``fold``.

How the format may grow. Readers ignore what they do not know: fields of the header, fields of entries, whole entries.
A line is torn or damaged only where its checksum or its frame is wrong, or where a known entry makes no sense.
The releases of version 1 before this rule cut such lines off as torn. So the first change that adds an entry, or a
field to an entry that takes no extras yet, raises VERSION to 2: older programs then refuse the journal by name,
and a journal of version 1 that is resumed is rewritten as version 2. Later additions that a reader may ignore need no
new version; those that it must heed raise it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypedDict
from zlib import crc32

import orjson

VERSION = 1


class Entry:
    """Base of all entries. In the file an entry is ``{"tag": {its fields}}``; the tag is a format, the class name is not."""

    __slots__: ClassVar[tuple[str, ...]] = ()  # of an entry: its fields
    tag: ClassVar[str]

    def __init_subclass__(cls, tag: str | None = None) -> None:
        if tag is not None:  # None: the dataclass decorator makes the class a second time, the tag already in it
            cls.tag = tag

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """The entry with these fields; those that it does not know are ignored. TypeError where one is missing."""
        return cls(**{name: value for name, value in values.items() if name in cls.__slots__})

    def to_line(self, extras: Mapping[str, Any] = {}) -> bytes:
        """The entry as a line, with further fields where there are `extras`."""
        values = {**{name: getattr(self, name) for name in self.__slots__}, **extras} if extras else self
        return frame(b'{"%b":%b}' % (self.tag.encode(), orjson.dumps(values)))


@dataclass(frozen=True, slots=True)
class Header(Entry, tag="header"):
    """The first line: which batch this is. What must match on resume is compared with this.

    `artifacts` is the folder of results that are files, seen from the output's; whoever goes on without naming one
    goes on with it.
    """

    version: int
    run_id: str
    service: str
    origin: str
    account: str
    key_fingerprint: str
    body_flags: dict[str, Any]
    input: str
    at: float
    artifacts: str | None = None


@dataclass(frozen=True, slots=True)
class Started(Entry, tag="started"):
    """A process took up the batch. `rows` counts its input, where one was read."""

    pid: int
    at: float
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Stopped(Entry, tag="stopped"):
    """It left in good order, and why; `told` is what was said of a halt. Where this is missing it was killed, or the
    power failed."""

    reason: str
    at: float
    told: str | None = None


@dataclass(frozen=True, slots=True)
class SyncedMark(Entry, tag="synced"):
    """Everything before offset `to` of this file is on the disk."""

    to: int


@dataclass(frozen=True, slots=True)
class Intent(Entry, tag="intent"):
    """The row is about to be POSTed."""

    key: str
    attempt: int
    row_sha256: str
    at: float


@dataclass(frozen=True, slots=True)
class Submitted(Entry, tag="submitted"):
    """The service accepted it under this id."""

    key: str
    attempt: int
    job_id: str
    at: float


@dataclass(frozen=True, slots=True)
class AttemptEnded(Entry, tag="ended"):
    """The attempt ended in a way that is worth a new one."""

    key: str
    attempt: int
    job_id: str | None
    state: str
    code: str | None
    billing: str
    retry_at: float
    at: float


@dataclass(frozen=True, slots=True)
class Cleared(Entry, tag="cleared"):
    """The intent is void: provably nothing was created."""

    key: str
    attempt: int
    at: float


@dataclass(frozen=True, slots=True)
class Unconfirmed(Entry, tag="unconfirmed"):
    """Sent, and the answer was lost."""

    key: str
    attempt: int
    at: float


@dataclass(frozen=True, slots=True)
class Cancelling(Entry, tag="cancelling"):
    """The row is to end as cancelled; from here on nothing else can come of it."""

    key: str
    attempt: int
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class RequestsAccepted(Entry, tag="heard"):
    """The wishes of other processes are taken in hand up to offset `to` of their file.

    With `all` every row that has no record is to end as cancelled, those not yet read included; a later entry
    without it says that this is done. A wish behind `left` names rows that only a run with the input can find: the
    next run reads on from there.
    """

    to: int
    all: bool
    left: int | None = None


@dataclass(frozen=True, slots=True)
class Done(Entry, tag="done"):
    """An index into the output, never a fact: where its record stands, the CRC of that line, and its state."""

    key: str
    gen: int
    offset: int
    length: int
    crc: int
    state: str


class Dropped(TypedDict):
    """What a rewriting needs of a record that it drops."""

    state: str
    job_id: str | None
    code: str | None
    billing: str


@dataclass(frozen=True, slots=True)
class Rewrite(Entry, tag="rewrite"):
    """Output and journal are to be rewritten as generation `gen`, without the records of `keys`.

    Each key comes with how its row had ended, because the record that says so may be gone already when the
    rewriting is done again after a crash.
    """

    gen: int
    keys: dict[str, Dropped]


@dataclass(frozen=True, slots=True)
class Rewritten(Entry, tag="rewritten"):
    """All before this line was written anew as generation `gen`, from a journal with these counts."""

    gen: int
    accepted: int
    retries: int


@dataclass(frozen=True, slots=True)
class PollAgain(Entry, tag="again"):
    """The row had ended in `state`, its record was dropped, and its job is to be looked at once more."""

    key: str
    attempt: int
    state: str


TAGS = frozenset(entry.tag for entry in Entry.__subclasses__())


def frame(json: bytes) -> bytes:
    """`json` as a line of the journal."""
    return b"%08x %b\n" % (crc32(json), json)


def mark(to: int) -> bytes:
    """The line that begins a group: everything before offset `to` is on the disk."""
    return frame(b'{"synced":{"to":%d}}' % to)


def read_line(line: bytes) -> tuple[str, dict[str, Any]] | None:
    """Tag and fields of a line with its line end; None for one that is torn, altered or no entry."""
    json = line[9:-1]
    if line[-1:] != b"\n" or line[:9] != b"%08x " % crc32(json):
        return None
    try:
        ((tag, values),) = orjson.loads(json).items()
    except (ValueError, AttributeError):
        return None
    return (tag, values) if isinstance(values, dict) else None
