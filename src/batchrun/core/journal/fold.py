"""What the lines of a journal amount to: one ``JournaledRow`` for each row, everything a run must know to resume it.

Tail rule. A crash leaves a tail of which any page may be missing. Every group of entries begins with
``synced{to}``: all before that offset is known to be on the disk. So a bad line at or after the greatest
mark is a torn tail, to be cut; a bad line before it is corruption, to be refused.

A crash takes no whole line out of the middle and moves none. So a mark whose `to` is not its own offset, or an
entry that cannot follow on the earlier ones of its row, shows that somebody edited the file: corruption too.

What another batchrun of the same version added is no damage: a field that is unknown here is ignored, an entry whose
tag is unknown here is passed over. A rewriting carries both on, but for the fields of entries about rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from struct import Struct
from struct import error as PackError  # noqa: N812 - a class, whatever its name
from typing import Any, NamedTuple
from zlib import crc32

import orjson

from batchrun.core.journal.entries import (
    VERSION,
    AttemptEnded,
    Cancelling,
    Cleared,
    Done,
    Header,
    Intent,
    PollAgain,
    RequestsAccepted,
    Rewrite,
    Rewritten,
    Started,
    Stopped,
    Submitted,
    Unconfirmed,
    frame,
)  # fmt: skip
from batchrun.core.responses.verdict import is_safe_id
from batchrun.core.taxonomy.rules import State, interned_state

PLACE = Struct(">QQQI")  # big-endian: packed markers sort as their records stand in the file
Marker = tuple[int, int, int, int, str]
"""Of a record: generation, offset, length, CRC, state."""
_AT_ONCE = 256  # lines


class JournaledRow:
    """What the journal knows of one row, after its last entry."""

    __slots__ = (
        "again",
        "attempt",
        "cancel",
        "ended",
        "job_id",
        "open_since",
        "recorded_as",
        "recorded_at",
        "retry_at",
        "row_sha256",
        "submitted_at",
        "unconfirmed",
    )

    def __init__(self) -> None:
        self.attempt = 1
        self.row_sha256 = ""
        self.open_since: float | None = None  # when an intent without an end was written: perhaps sent
        self.job_id: str | None = None
        self.submitted_at = 0.0
        self.ended: tuple[AttemptEnded, ...] = ()
        self.retry_at: float | None = None
        self.unconfirmed = False
        self.cancel: str | None = None
        self.again: str | None = None  # the state in which its job had ended, where it is to be polled once more
        self.recorded_at: bytes | None = None  # its marker, packed: a million of them are in memory at once
        self.recorded_as = ""

    @property
    def open_intent(self) -> bool:
        """Whether its last attempt may have been sent, and has no end."""
        return self.open_since is not None

    @open_intent.setter
    def open_intent(self, value: bool) -> None:
        self.open_since = 0.0 if value else None

    @property
    def marker(self) -> Marker | None:
        """Where its record stands, as far as the journal knows."""
        if self.recorded_at is None:
            return None
        gen, offset, length, crc = PLACE.unpack(self.recorded_at)
        return gen, offset, length, crc, self.recorded_as

    @marker.setter
    def marker(self, marker: Marker) -> None:
        *place, self.recorded_as = marker
        self.recorded_at = PLACE.pack(*place)

    @property
    def is_void(self) -> bool:
        """Whether the row is as if it had never been touched: no attempt that counts, no cancel, no record."""
        return not (
            self.open_intent or self.job_id or self.ended or self.unconfirmed or self.cancel or self.recorded_at
        )

    @property
    def may_have_been_sent(self) -> bool:
        """Whether the last attempt has been sent, or perhaps was. Of a row without an id its record may be all that says so."""
        recorded_so = self.recorded_at is not None and self.recorded_as == State.UNCONFIRMED
        return self.open_intent or self.unconfirmed or self.job_id is not None or recorded_so

    @property
    def only_refused(self) -> bool:
        """Whether nothing was ever created for the row: each of its POSTs was refused, and no cancel was asked for.

        Its record, if it has one, says how it was refused. A row that was never POSTed has no hash.
        """
        sent = self.open_intent or self.job_id or self.ended or self.unconfirmed or self.cancel
        return bool(self.row_sha256) and not sent

    @property
    def waits(self) -> bool:
        """Whether the row waits for a retry: its last attempt is over, and is to be followed by another."""
        over = not (self.open_intent or self.job_id or self.unconfirmed or self.cancel or self.recorded_at)
        return over and bool(self.ended)


class Gap(NamedTuple):
    """Two marks between which lines are missing, or too many."""

    start: int  # the offset of the first of them
    end: int
    missing: int  # bytes; negative where there are too many


@dataclass(slots=True)
class JournalState:
    """What the bytes of a journal amount to."""

    header: Header | None
    journaled_rows: dict[str, JournaledRow]
    good_to: int = 0  # the offset of the first line that is not good; the file's length if all are
    torn: bool = False
    corrupt: bool = False
    accepted: int = 0
    retries: int = 0
    gen: int = 0
    rows: int | None = None  # of the input, when it was last read
    started: Started | None = None
    stopped: Stopped | None = None
    heard_to: int = 0  # the cancel requests before this offset are accepted
    cancel_all: bool = False  # and one of them asked to end every row
    rewrite: Rewrite | None = None  # announced, and not done
    synced_to: int = 0  # the offset of the last mark: everything before it is known to have been on the disk
    gap: Gap | None = None  # the first mark that does not stand where it was written
    astray: list[str] = field(
        default_factory=list
    )  # keys of entries that cannot follow on the earlier ones of their row
    damaged: list[tuple[int, int]] = field(default_factory=list)  # offset and length of bad lines that were passed over
    header_extras: dict[str, Any] = field(default_factory=dict)  # fields of the header that are unknown here
    unknown: int = 0  # entries that are unknown here
    newer_version: int | None = None  # of a header that only a newer batchrun can read: nothing here is to be touched


def fold(lines: Iterable[bytes], past_damage_to: int = 0) -> JournalState:
    """Read the lines of a journal (each with its line end) in one pass.

    Bad lines that begin before `past_damage_to` are noted and passed over, as a repair does: what its other
    lines say is as true as it was.

    Any truncation of a journal folds to what a prefix of its entries folds to. An entry that is well formed
    but cannot follow on the ones before it (an unsafe job id, another header) counts as a bad line. Behind the
    header of a newer version nothing is judged: what would be a bad line here may be a good one there.
    """
    return Folding(past_damage_to).take(lines)


class Folding:
    """A fold in parts: lines may come a part at a time, and amount to what all of them at once would.

    `told` is called, tag by tag, with the fields of each entry that was taken. A method a tag takes the entries;
    it tells whether the entry makes sense here.
    """

    def __init__(self, past_damage_to: int = 0, told: Mapping[str, Callable[[dict[str, Any]], object]] = {}) -> None:
        self.fold = JournalState(None, {})
        self._rows = self.fold.journaled_rows
        self._past_damage_to = past_damage_to
        self._offset = 0
        self._bad: int | None = None
        self._told = told
        self._takers: dict[str, Callable[[dict[str, Any]], bool]] = {Header.tag: self._header}  # it comes first

    def take(self, lines: Iterable[bytes]) -> JournalState:
        """Take the next lines; the fold of all so far."""
        result, takers, past_damage_to = self.fold, self._takers, self._past_damage_to
        offset, bad, last_mark = self._offset, self._bad, result.synced_to
        astray = len(result.astray)
        lines = iter(lines)
        while part := list(islice(lines, _AT_ONCE)):
            begins, counted = offset, 0  # where the line after the first `counted` ones of the part begins
            for place, entry in enumerate(_entries_of(part)):
                good = False
                try:
                    tag, values = entry.popitem()
                    if entry:
                        pass  # more than one tag: no entry
                    elif bad is None and (take := takers.get(tag)) is not None:
                        good = take(values)
                    elif tag == "synced":
                        begins += sum(map(len, part[counted:place]))
                        counted = place
                        if values["to"] != begins and result.gap is None:
                            result.gap = Gap(last_mark, begins, values["to"] - begins)
                        last_mark = begins
                        good = True
                    elif bad is not None:
                        good = True
                    elif result.header is not None and type(values) is dict:
                        result.unknown += 1
                        good = True
                except (ValueError, AttributeError, KeyError, TypeError, PackError):
                    pass  # no entry, or a field that is missing or of the wrong kind
                if not good and bad is None:
                    begins += sum(map(len, part[counted:place]))
                    counted = place
                    if begins < past_damage_to or (past_damage_to and len(result.astray) > astray):
                        astray = len(result.astray)
                        result.damaged.append((begins, len(part[place])))
                    else:
                        bad = begins
            offset = begins + sum(map(len, part[counted:]))
        self._offset, self._bad, result.synced_to = offset, bad, last_mark
        if result.newer_version is not None:
            result.good_to, result.corrupt, result.torn = offset, False, False
            return result
        result.good_to = offset if bad is None else bad
        result.corrupt = (bad is not None and bad < last_mark) or result.gap is not None or bool(result.astray)
        result.torn = bad is not None and not result.corrupt
        return result

    def _is_astray(self, key: str) -> bool:
        """An entry of the row `key` is out of place, and is not taken."""
        self.fold.astray.append(key)
        return False

    def _row_of(self, values: dict[str, Any]) -> JournaledRow:
        key = values["key"]
        journaled = self._rows.get(key)
        if journaled is None:
            journaled = self._rows[key] = JournaledRow()
        return journaled

    def _intent(self, values: dict[str, Any]) -> bool:
        key, attempt = values["key"], values["attempt"]
        journaled = self._rows.get(key)
        if journaled is None:
            journaled = self._rows[key] = JournaledRow()
        elif (
            journaled.open_since is not None
            or journaled.job_id is not None
            or journaled.unconfirmed
            or journaled.again is not None
            or attempt < journaled.attempt
        ):  # an earlier attempt is not over, or this one is
            return self._is_astray(key)
        else:
            journaled.retry_at = journaled.recorded_at = None
        journaled.attempt = attempt
        if row_sha256 := values["row_sha256"]:  # the intent of a later attempt has none
            journaled.row_sha256 = row_sha256
        at = values.get("at")
        journaled.open_since = at if type(at) is float else 0.0
        return True

    def _submitted(self, values: dict[str, Any]) -> bool:
        job_id = values["job_id"]
        if not is_safe_id(job_id):
            return False
        key, attempt = values["key"], values["attempt"]
        journaled = self._rows.get(key)
        if journaled is None:
            journaled = self._rows[key] = JournaledRow()
        elif journaled.job_id is not None or attempt < journaled.attempt:
            return self._is_astray(key)
        journaled.attempt = attempt
        journaled.open_since = None
        journaled.job_id = job_id
        journaled.submitted_at = values["at"]
        self.fold.accepted += 1
        return True

    def _ended(self, values: dict[str, Any]) -> bool:
        journaled = self._row_of(values)
        if journaled.ended and values["attempt"] <= journaled.ended[-1].attempt:
            return self._is_astray(values["key"])
        journaled.ended = (*journaled.ended, AttemptEnded.of(values))
        if values["attempt"] < journaled.attempt:  # it says nothing of the attempt that is known by now
            self.fold.retries += 1
            return True
        journaled.attempt = values["attempt"] + 1
        journaled.open_since = None
        journaled.unconfirmed = False
        journaled.job_id = None
        journaled.retry_at = values["retry_at"]
        self.fold.retries += journaled.again is None  # a new attempt that the user asked for is not counted
        journaled.again = None
        return True

    def _cleared(self, values: dict[str, Any]) -> bool:
        journaled = self._row_of(values)
        if values["attempt"] < journaled.attempt:
            return self._is_astray(values["key"])
        journaled.open_since = None
        return True

    def _unconfirmed(self, values: dict[str, Any]) -> bool:
        journaled = self._row_of(values)
        if values["attempt"] < journaled.attempt:
            return self._is_astray(values["key"])
        journaled.open_since = None
        journaled.unconfirmed = True
        return True

    def _cancelling(self, values: dict[str, Any]) -> bool:
        self._row_of(values).cancel = values["reason"]
        return True

    def _heard(self, values: dict[str, Any]) -> bool:
        heard = RequestsAccepted.of(values)
        self.fold.heard_to, self.fold.cancel_all = heard.to if heard.left is None else heard.left, heard.all
        return type(heard.to) is type(self.fold.heard_to) is int

    def _done(self, values: dict[str, Any]) -> bool:
        journaled = self._row_of(values)
        journaled.recorded_as = interned_state(values["state"])
        journaled.recorded_at = PLACE.pack(values["gen"], values["offset"], values["length"], values["crc"])
        return True

    def _header(self, values: dict[str, Any]) -> bool:
        if self.fold.header is not None:
            return False
        version = values["version"]
        if type(version) is int and version > VERSION:
            self.fold.newer_version = version
            return False
        self.fold.header = Header.of(values)
        self.fold.header_extras = {name: values[name] for name in values.keys() - set(Header.__slots__)}
        self._takers |= {
            Intent.tag: self._intent,
            Submitted.tag: self._submitted,
            Done.tag: self._done,
            AttemptEnded.tag: self._ended,
            Cleared.tag: self._cleared,
            Unconfirmed.tag: self._unconfirmed,
            Cancelling.tag: self._cancelling,
            RequestsAccepted.tag: self._heard,
            Started.tag: self._started,
            Stopped.tag: self._stopped,
            Rewrite.tag: self._rewrite,
            Rewritten.tag: self._rewritten,
            PollAgain.tag: self._again,
        }
        for tag, tell in self._told.items():
            self._takers[tag] = _telling(self._takers[tag], tell)
        return True

    def _started(self, values: dict[str, Any]) -> bool:
        started = self.fold.started = Started.of(values)
        self.fold.stopped = None
        if started.rows is not None:
            self.fold.rows = started.rows
        return True

    def _stopped(self, values: dict[str, Any]) -> bool:
        self.fold.stopped = Stopped.of(values)
        return True

    def _rewrite(self, values: dict[str, Any]) -> bool:
        self.fold.rewrite = Rewrite.of(values)
        self.fold.gen = values["gen"]
        return isinstance(values["keys"], dict)

    def _rewritten(self, values: dict[str, Any]) -> bool:
        done = Rewritten.of(values)
        self.fold.gen, self.fold.accepted, self.fold.retries = done.gen, done.accepted, done.retries
        return True

    def _again(self, values: dict[str, Any]) -> bool:
        self._row_of(values).again = State(values["state"]).value
        return True


def _entries_of(lines: list[bytes]) -> Iterable[Any]:
    """What each of `lines` holds as JSON; None for one that is torn or altered.

    A million rows are two million lines, nearly always good ones: their checksums are compared all at once.
    """
    jsons = [line[9:-1] for line in lines]
    parts = chain.from_iterable(zip(map(crc32, jsons), jsons, strict=True))
    try:
        if b"%08x %b\n" * len(jsons) % tuple(parts) == b"".join(lines):
            return list(map(orjson.loads, jsons))
    except ValueError:
        pass
    return [_json_of(line) for line in lines]


def _json_of(line: bytes) -> Any:
    json = line[9:-1]
    try:
        return orjson.loads(json) if line == frame(json) else None
    except ValueError:
        return None


def _telling(
    taker: Callable[[dict[str, Any]], bool], tell: Callable[[dict[str, Any]], object]
) -> Callable[[dict[str, Any]], bool]:
    """`taker`, and who is told of what it took."""

    def take(values: dict[str, Any]) -> bool:
        taken = taker(values)
        if taken:
            tell(values)
        return taken

    return take
