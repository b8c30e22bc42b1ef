"""An input that was checked: its findings, its rows again, and their bodies for as long as the run needs them."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from types import TracebackType
from typing import Self
from zlib import crc32

from batchrun.core.jobs.job import About, Row
from batchrun.core.responses.error import Problem, our_problem
from batchrun.core.rows.key_index import KeyIndex
from batchrun.core.rows.parse import (
    Admitted,
    Prepared,
    Rejection,
    RowParser,
    canonical,
    content_key,
    input_tokens,
    metadata,
    result_tokens,
    roughly,
)
from batchrun.core.text.readable import Option, visible, worded
from batchrun.edge.source.opening import InputChanged, Spool
from batchrun.edge.source.report import Report

# --- What is kept of each row: where it stands, what it was, and the mark of its key. No text ---
#
# A row costs 8 bytes for its offset, 4 for its checksum, 1 for its kind, 8 for its mark and 6 to 12 for the table that
# finds it: 27 to 33, and 4 more where rows are alike. What is rare (blank lines, bad rows) has lists of its own, in the
# order of the file, so that one search finds a row in them.


READ = 0  # instead of the number of a kind: the row must be read again to know what its record needs
_KINDS = 255
_FIRST = 1 << 31  # on the first of rows that are alike, with their number; the others hold which one they are


Kind = tuple[str, int, str]
"""What rows have in common: model, token cap, and the path of the endpoint."""


class Index:
    """The rows of an input by ordinal, the bad ones included: they are rows too, and have records."""

    def __init__(self) -> None:
        self.offsets = array("Q")
        self.sums = array("I")
        self.seen = KeyIndex()
        self.bad = array("I")  # ordinals
        self.doubled = bytearray()  # beside `bad`: its id stood on an earlier row
        self.kind_of = bytearray()  # of good rows without metadata: 1 + the place in `kinds`; else READ
        self.kinds: list[Kind] = []
        self._numbers: dict[Kind, int] = {}
        self.end = 0  # where the last row ends, at most
        self._alike = array("I")  # grows as far as the last row that has a like
        self._blank_at = array("I")  # before this ordinal there are …
        self._blanks = array("I")  # … so many blank lines

    def __len__(self) -> int:
        return len(self.offsets)

    def kind(self, kind: Kind) -> int:
        """What stands for rows of that kind in `kind_of`; READ for the rare ones beyond the first 255."""
        if kind not in self._numbers and len(self.kinds) < _KINDS:
            self.kinds.append(kind)
            self._numbers[kind] = len(self.kinds)
        return self._numbers.get(kind, READ)

    def line_of(self, ordinal: int) -> int:
        """The number of the line that holds the row, from 1."""
        at = bisect_right(self._blank_at, ordinal)
        return ordinal + 1 + (self._blanks[at - 1] if at else 0)

    def blank_before(self, ordinal: int) -> None:
        """A blank line stands before the row `ordinal`, which comes next."""
        if self._blank_at and self._blank_at[-1] == ordinal:
            self._blanks[-1] += 1
        else:
            self._blanks.append((self._blanks[-1] if self._blanks else 0) + 1)
            self._blank_at.append(ordinal)

    def is_bad(self, ordinal: int) -> bool:
        at = bisect_left(self.bad, ordinal)
        return at < len(self.bad) and self.bad[at] == ordinal

    def is_doubled(self, ordinal: int) -> bool:
        """Whether the row has an id that an earlier row has."""
        at = bisect_left(self.bad, ordinal)
        return at < len(self.bad) and self.bad[at] == ordinal and bool(self.doubled[at])

    def is_unlike(self, ordinal: int) -> bool:
        """Whether the row is good and the check met no other like it: its bytes then tell its key."""
        return not (ordinal < len(self._alike) and self._alike[ordinal]) and not self.is_bad(ordinal)

    @property
    def all_unlike(self) -> bool:
        """Whether that is so for every row."""
        return not self._alike and not self.bad

    def which(self, ordinal: int) -> int:
        """1 for the first of rows that are alike, 2 for the second, and so on."""
        number = self._alike[ordinal] if ordinal < len(self._alike) else 0
        return number if 0 < number < _FIRST else 1

    def alike(self, first: int) -> int:
        """How many rows are like `first`, itself included."""
        number = self._alike[first] if first < len(self._alike) else 0
        return number - _FIRST if number >= _FIRST else 1

    def set_alike(self, first: int, ordinal: int, number: int) -> None:
        """The row `ordinal` is number `number` of the rows like `first`."""
        missing = ordinal + 1 - len(self._alike)
        if missing > 0:
            self._alike.extend(array("I", [0]) * missing)
        self._alike[first] = _FIRST + number
        self._alike[ordinal] = number


# --- Rows read again where they stand, and held to what the check saw ---


_AHEAD, _WINDOW = 1 << 12, 1 << 18
_KEY_BYTES = 1 << 16  # of a line that is no row; the beginning tells lines apart that are too long to hold


@dataclass(slots=True)
class FoundRows:
    """Rows that were looked for by their keys: the keys, and where the rows stand."""

    keys: list[str] = field(default_factory=list)
    ordinals: array[int] = field(default_factory=lambda: array("I"))
    changed: list[tuple[str, int]] = field(default_factory=list)  # those of them that have another hash

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return zip(self.keys, self.ordinals, strict=True)


class Reader:
    """The rows of a descriptor that can seek, by the offsets of `index`."""

    def __init__(
        self, fd: int, name: str, intake: RowParser, *, max_row: int, mark: Callable[[str], int] = hash
    ) -> None:
        self.fd, self.name, self.intake, self.max_row, self.mark = fd, name, intake, max_row, mark
        self.index = Index()
        self._last: tuple[int, bytes, Admitted | Rejection] | None = None  # found by its key

    def found(self, line: bytes) -> Admitted | Rejection:
        """What `line` holds; lines over `max_row` are cut, and known by that."""
        if len(line) > self.max_row:
            return Rejection(
                "row_too_large", (f"expected at most {self.max_row:,} bytes, got more: raise ", Option("max_row"))
            )
        return self.intake.admit(line)

    def line(self, ordinal: int) -> bytes:
        """The line of a row; raises `InputChanged` if it is not what the check saw."""
        for _, line in self.lines((ordinal,)):
            return line
        raise IndexError(ordinal)

    def lines(self, ordinals: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """These rows, which rise, with their lines; as `line`. What lies ahead is read with them where rows follow closely."""
        index, limit = self.index, self.max_row + 1
        offsets, sums = index.offsets, index.sums
        window, base, end, ahead = b"", 0, 0, 0
        for ordinal in ordinals:
            at = offsets[ordinal]
            feed = window.find(b"\n", at - base) if at >= base else -1
            if feed < 0:
                following = offsets[ordinal + 1] if ordinal + 1 < len(offsets) else index.end
                if at < base or following > end:
                    ahead = min(max(4 * ahead, _AHEAD), _WINDOW) if end and at - end <= max(ahead, _AHEAD) else 0
                    window = self._read(at, max(min(following - at, limit + 1), ahead))
                    base, end = at, at + len(window)
                    feed = window.find(b"\n")
            line = window[at - base : len(window) if feed < 0 else feed][:limit]
            if crc32(line) != sums[ordinal]:
                number = index.line_of(ordinal)
                raise InputChanged(
                    f"{self.name}:{number}: the line changed since it was checked: run the same command again"
                )
            yield ordinal, line

    def key(self, ordinal: int, line: bytes, found: Admitted | Rejection) -> str:
        """The key of a row: its custom_id, else a hash of it and, from the second on, which of its like it is."""
        base = base_key(line, found)
        if found.custom_id is not None and self.index.is_doubled(ordinal):
            base = content_key(base.encode(), of="id")
        which = self.index.which(ordinal)
        return base if which == 1 else f"{base}-{which}"

    def find(self, key: str) -> int | None:
        """The ordinal of the row with `key`; rows whose mark is the same by chance are read and compared."""
        for ordinal in self.index.seen.at(self.mark(key)):
            line = self.line(ordinal)
            found = self.found(line)
            if self.key(ordinal, line, found) == key:
                self._last = (ordinal, line, found)
                return ordinal
        return None

    def find_all(self, rows: Iterable[tuple[str, str]]) -> FoundRows:
        """The rows with these keys; each key comes with the hash that its row had, empty where that is unknown.

        They are in the order of the input, but for those that were first mistaken for another. A row with the mark of
        the key and that hash is the row, and is not parsed. Any other is, also where the hash is unknown.
        """
        keys, hashes, ordinals, marks, mark = list[str](), list[str](), array("I"), self.index.seen.marks, self.mark
        following, rising = 0, True
        for key, sha256_then in rows:
            of_key = mark(key)
            if following >= len(marks) or marks[following] != of_key:  # rows were mostly sent in the order of the input
                ordinal = next(self.index.seen.at(of_key), None)
                if ordinal is None:
                    continue
                rising = rising and ordinal >= following
                following = ordinal
            keys.append(key)
            hashes.append(sha256_then)
            ordinals.append(following)
            following += 1
        if not rising:
            order = sorted(range(len(ordinals)), key=ordinals.__getitem__)
            keys, hashes = [keys[place] for place in order], [hashes[place] for place in order]
            ordinals = array("I", (ordinals[place] for place in order))
        all_unlike, is_unlike = self.index.all_unlike, self.index.is_unlike
        changed, gone = list[tuple[str, int]](), list[int]()
        for place, (ordinal, line) in enumerate(self.lines(ordinals)):
            sha256_now = row_sha256(line)
            if sha256_now == hashes[place] and (all_unlike or is_unlike(ordinal)):
                continue
            key = keys[place]
            if self.key(ordinal, line, self.found(line)) != key:
                other = self.find(key)
                if other is None:
                    gone.append(place)
                    continue
                ordinals[place], sha256_now = other, row_sha256(self.line(other))
            if hashes[place] not in ("", sha256_now):
                changed.append((key, ordinals[place]))
        for place in reversed(gone):
            del keys[place], ordinals[place]
        return FoundRows(keys, ordinals, changed)

    def taken(self, ordinal: int) -> tuple[bytes, Admitted | Rejection]:
        """The line of a row and what it holds; read once for whoever has just found it by its key."""
        last, self._last = self._last, None
        if last is not None and last[0] == ordinal:
            return last[1:]
        line = self.line(ordinal)
        return line, self.found(line)

    def _read(self, at: int, size: int) -> bytes:
        data = os.pread(self.fd, size, at)
        while len(data) < size and (more := os.pread(self.fd, size - len(data), at + len(data))):
            data += more
        return data


def row_sha256(line: bytes) -> str:
    """The first half of the SHA-256 of a row as it is written, blanks around it apart."""
    return sha256(line.strip()).hexdigest()[:32]


def base_key(line: bytes, found: Admitted | Rejection) -> str:
    """The key of a row that has no like."""
    if found.custom_id is not None:
        return found.custom_id
    if isinstance(found, Admitted):
        return content_key(canonical(found.value))
    return content_key(line[:_KEY_BYTES], of="line")


class Checked:
    """The rows of an input by ordinal, which counts every row from 0, the bad ones included.

    Reading again raises `InputChanged` where a line is not what the check saw. Calls may come from any
    thread; none keeps a place in the file.
    """

    def __init__(self, reader: Reader, report: Report, spool: Spool | None) -> None:
        self._reader = reader
        self._spool = spool
        self._closed = False
        self._abouts: dict[tuple[Kind, int], About] = {}
        self._about_of: dict[int, About] = {}  # the same, by the number of their kind
        self.report = report
        self.name = reader.name

    def __len__(self) -> int:
        return len(self._reader.index)

    def __repr__(self) -> str:
        return f"<Checked {self.name}: {len(self):,} rows, {self.report.problems.total:,} bad>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def rows(self, start: int = 0, *, tokens: bool = False) -> Iterator[Row]:
        """All rows from the ordinal `start` on, in order, the bad ones with their problem.

        With `tokens` each has an estimate of the tokens that it and its answer will take.
        """
        return self.rows_at(range(start, len(self)), tokens=tokens)

    def rows_at(self, ordinals: Iterable[int], *, tokens: bool = False) -> Iterator[Row]:
        """The rows with these ordinals, which rise; as `rows`."""
        reader = self._reader
        for ordinal, line in reader.lines(ordinals):
            found = reader.found(line)
            key = reader.key(ordinal, line, found)
            if not isinstance(found, Admitted) or reader.index.is_bad(ordinal):
                yield Row(key, problem=self._problem(ordinal, found))
                continue
            own = metadata(found, line)
            cap = reader.intake.token_cap(found.body)
            estimate = roughly(input_tokens(len(line)) + result_tokens(cap)) if tokens else 0
            about = self._about((found.model, cap, found.endpoint.path), estimate)
            if (window := reader.intake.window(found.body)) != about.window:
                about = replace(about, window=window)
            if own is not None:
                about = replace(about, metadata=own)
            yield Row(key, about, row_sha256(line))

    def row(self, ordinal: int) -> Row:
        """The row with this ordinal."""
        return next(self.rows_at((ordinal,)))

    def about(self, ordinal: int) -> About | None:
        """What a record needs of a row that has no metadata of its own; None where the row must be read for it."""
        index = self._reader.index
        number = index.kind_of[ordinal]
        about = self._about_of.get(number)
        if about is None and number != READ:
            about = self._about_of[number] = self._about(index.kinds[number - 1])
        return about

    def find_all(self, rows: Iterable[tuple[str, str]]) -> FoundRows:
        """The rows with these keys, in order, and those of them that have not the hash that is given with the key.

        Where the hash is empty, it is unknown, and any row agrees with it.
        """
        return self._reader.find_all(rows)

    def all_keys(self) -> Iterator[str]:
        """The key of every row in order, bad ones included: place n has ordinal n."""
        reader = self._reader
        for ordinal, line in reader.lines(range(len(self))):
            yield reader.key(ordinal, line, reader.found(line))

    def body(self, ordinal: int) -> Prepared:
        """What is sent for a good row."""
        line, found = self._reader.taken(ordinal)
        if not isinstance(found, Admitted) or self._reader.index.is_bad(ordinal):
            raise ValueError(f"row {ordinal} was rejected: it has no body to send")
        return self._reader.intake.prepare(found, line)

    def row_sha256(self, ordinal: int) -> str:
        """The hash of a row as it is written."""
        return row_sha256(self._reader.line(ordinal))

    def ordinal_of(self, key: str) -> int | None:
        """The row with `key`, good or bad; None if there is none."""
        return self._reader.find(key)

    def line_of(self, ordinal: int) -> int:
        """The number of a row's line, from 1."""
        return self._reader.index.line_of(ordinal)

    def is_bad(self, ordinal: int) -> bool:
        """Whether the check refused the row."""
        return self._reader.index.is_bad(ordinal)

    def keep(self) -> None:
        """Make the copy of an input that cannot seek durable under its name, before the first submit."""
        if self._spool is not None:
            self._spool.keep()

    def close(self) -> None:
        """Give up the input; a copy that was not kept is gone."""
        if self._closed:
            return
        self._closed = True
        if self._spool is None:
            os.close(self._reader.fd)
        else:
            self._spool.close()

    def _about(self, kind: Kind, tokens: int = 0) -> About:
        """What rows of that kind and of so many tokens share."""
        about = self._abouts.get((kind, tokens))
        if about is None:
            model, token_cap, path = kind
            window = self._reader.intake.window({})
            about = self._abouts[kind, tokens] = About(
                model, tokens=tokens, token_cap=token_cap, path=path, window=window
            )
        return about

    def _problem(self, ordinal: int, found: Admitted | Rejection) -> Problem:
        if isinstance(found, Admitted):
            first = self._reader.find(found.custom_id or "")
            code, message = "duplicate_id", doubled_message(found.custom_id or "", self.line_of(first or 0))
        else:
            code, message = found.code, worded(found.message)
        number = self.line_of(ordinal)
        return our_problem(code, f"{self.name}:{number}: {message}")


class Growing(Checked):
    """An input that takes rows while it runs: `append` adds one, `ended` says that none will follow.

    Its copy (`OUT.input`) holds the rows that the batch was opened with, then those that earlier runs were given
    while they ran, then those of this run. Whoever appends has made the line durable elsewhere (`OUT.submitted`):
    the copy is written again by the next run, and need not be synced for a row's sake.

    `take` is the check, going on with one line more: its offset and the line.
    """

    def __init__(self, reader: Reader, report: Report, spool: Spool, take: Callable[[int, bytes], None]) -> None:
        super().__init__(reader, report, spool)
        self._copy = spool
        self._take = take
        self._size = report.size
        self.ended = False

    def judge(self, line: bytes) -> Admitted | Rejection:
        """What `line` is, without taking it."""
        return self._reader.found(line)

    def like(self, row: Admitted) -> bool | None:
        """Whether the row that has this row's custom_id says the same; None where no row has it."""
        at = None if row.custom_id is None else self.ordinal_of(row.custom_id)
        if at is None:
            return None
        other = self._reader.found(self._reader.line(at))
        return isinstance(other, Admitted) and canonical(other.value) == canonical(row.value)

    def append(self, line: bytes) -> Row:
        """Take a row, which `judge` found good, to the end. Raises SpoolFailed where the copy cannot be written."""
        self._copy.write(line + b"\n")
        self._take(self._size, line)
        self._size += len(line) + 1
        return self.row(len(self) - 1)


def doubled_message(custom_id: str, first: int) -> str:
    """The message for a row whose id an earlier row has."""
    return f"custom_id {visible(custom_id, 60)!r} is already used on line {first:,}: give one of the two another"
