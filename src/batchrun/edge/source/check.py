"""The whole input, checked before the first submit.

One pass in constant memory but for the index: each line is read, judged, given its key and found unlike
all others, or counted among its like. What cannot seek is spooled in the same pass. The loop in `_read` is
the hot path: benchmarks/source.py holds it to 200,000 rows a second.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from zlib import crc32

from batchrun.core.rows.body_fields import has_usual_fields, odd_prompt, unknown_field_message, unknown_fields
from batchrun.core.rows.parse import (
    ENDPOINTS,
    NO_FLAGS,
    WINDOW_IN,
    Admitted,
    BodyFlags,
    Endpoint,
    Form,
    Rejection,
    RowParser,
    canonical,
    content_key,
    overridden,
    result_tokens,
)
from batchrun.core.text.json_text import duplicate_keys
from batchrun.core.text.readable import Option, visible
from batchrun.edge.append_file import is_same_file
from batchrun.edge.source.checked import READ, Checked, Growing, Reader, base_key, doubled_message
from batchrun.edge.source.formats import refuse_other_formats
from batchrun.edge.source.opening import (
    InputCutOff,
    InputRefused,
    LineWithoutEnd,
    OpenInput,
    Spool,
    open_input,
    refuse_other_encodings,
)
from batchrun.edge.source.report import Report, Share

MAX_ROW = 32 << 20
_BOM = b"\xef\xbb\xbf"
MOST_CUT = 256 << 20
"""Bytes of one line that are read and dropped while an input is copied, before the input is refused."""
_REMEMBERED = 1_000
_BEGINNING = 1 << 12  # bytes that show the format


def check(
    path: str | os.PathLike[str] | int,
    flags: BodyFlags = NO_FLAGS,
    *,
    spool: str | os.PathLike[str] | None = None,
    max_row: int = MAX_ROW,
    endpoints: Iterable[Endpoint] = ENDPOINTS,
    mark: Callable[[str], int] = hash,
    name: str | None = None,
    more: Iterable[bytes] | None = None,
) -> Checked:
    """Read the whole input and judge every row; the result holds the findings and reads the rows again.

    `spool` names the copy of an input that cannot seek (`OUT.input`), kept by `Checked.keep()`; without it the
    copy has no name and ends with `Checked.close()`. `mark` gives 64
    bits of a key; the standard one is keyed by the process, so that no input can make marks collide.

    `name` is what the input is called where it has no path. With `more`, whole lines that follow those of the
    input, the result is `Growing`: a copy is made, and rows can be appended to it.

    Raises `InputRefused` or `InputChanged` if the input as a whole is of no use, `SpoolFailed` if the copy is.
    """
    opened = open_input(path)
    copy: Spool | None = None
    try:
        if opened.must_spool or more is not None:
            _refuse_copy_of_itself(opened, spool)
            copy = Spool(None if spool is None else Path(spool))
        fd = opened.fd if copy is None else copy.fd
        reader = Reader(fd, name or opened.name, RowParser(flags, endpoints), max_row=max_row, mark=mark)
        checking = _Check(reader, None if isinstance(path, int) or path == "-" else os.fspath(path))
        blocks = opened.blocks() if more is None else chain(_ended(opened.blocks()), more)
        report = checking.run(blocks if copy is None else _copied(_cut(blocks, max_row), copy), opened.size or 0)
    except BaseException:
        if copy is not None:
            copy.close()
        os.close(opened.fd)
        raise
    if copy is not None:
        os.close(opened.fd)
    if more is not None:
        assert copy is not None
        return Growing(reader, report, copy, checking.take)
    return Checked(reader, report, copy)


def _refuse_copy_of_itself(opened: OpenInput, spool: str | os.PathLike[str] | None) -> None:
    if spool is not None and is_same_file(os.fspath(spool), opened.fd):
        raise InputRefused(f"{opened.name} is the copy of the input that the batch keeps", "give another input")


def _ended(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks, their last line ended: another may follow it."""
    last = b"\n"
    for block in blocks:
        yield block
        last = block[-1:] or last
    if last != b"\n":
        yield b"\n"


def _copied(blocks: Iterable[bytes], copy: Spool) -> Iterator[bytes]:
    for block in blocks:
        copy.write(block)
        yield block


def _cut(blocks: Iterable[bytes], max_row: int) -> Iterator[bytes]:
    """The blocks, of each line `max_row` + 1 bytes at most, which tells that it is too long.

    A few kilobytes of gzip or zstd can hold a line of gigabytes, and a pipe one that never ends: no more of it is copied.
    Raises LineWithoutEnd once `MOST_CUT` bytes of a line were dropped.
    """
    size = 0  # of the line that continues in the next block
    for block in blocks:
        if size + len(block) <= max_row:  # the usual case: no line in it can be too long
            feed = block.rfind(b"\n")
            size = size + len(block) if feed < 0 else len(block) - feed - 1
            yield block
            continue
        kept: list[bytes] = []
        start = 0
        while start < len(block):
            feed = block.find(b"\n", start)
            end = len(block) if feed < 0 else feed
            kept.append(block[start : min(end, start + max(0, max_row + 1 - size))])
            size += end - start
            if size > max_row + MOST_CUT:
                raise LineWithoutEnd(f"expected lines of at most {max_row:,} bytes")
            if feed >= 0:
                kept.append(b"\n")
                size = 0
            start = end + 1
        if data := b"".join(kept):
            yield data


def lines(blocks: Iterable[bytes], max_row: int, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """The blocks cut into lines, in memory that no line can exceed: each without its line feed, with its offset. `start` is the offset of the first block.

    Only LF ends a line: U+2028 and U+0085 may stand in strings, and a CR before it is white space to JSON.
    Of a line longer than `max_row` the first `max_row` + 1 bytes are kept, which tells it and holds no more.
    """
    offset = start
    held: list[bytes] = []  # the beginning of a line that continues in the next block
    size = kept = 0  # its bytes, and how many of them are in `held`
    for block in blocks:
        pieces = block.split(b"\n")
        last = pieces.pop()
        if size and pieces:
            first = pieces[0]
            length = size + len(first)
            held.append(first[: max_row + 1 - kept])
            yield offset, b"".join(held)
            offset += length + 1
            held, size, kept = [], 0, 0
            del pieces[0]
        for piece in pieces:
            yield offset, piece if len(piece) <= max_row else piece[: max_row + 1]
            offset += len(piece) + 1
        if last:
            cut = last[: max_row + 1 - kept]
            if cut:
                held.append(cut)
            size, kept = size + len(last), kept + len(cut)
    if size:
        yield offset, b"".join(held)


class _Check:
    """One pass over an input."""

    def __init__(self, reader: Reader, path: str | None) -> None:
        self.reader = reader
        self._path = path
        self.index = reader.index
        self.report = Report()
        self._fields: set[tuple[str, tuple[str, ...]]] = (
            set()
        )  # names in bodies that were looked at; a shortcut as well
        self._unknown: set[tuple[str, str]] = set()  # fields that were warned of, with their path
        self._shapes: dict[tuple[tuple[str, ...], Form, str], tuple[bool, bool]] = {}  # rows of a file have few
        self._firsts: dict[str, int] = {}  # keys that were found doubled recently; nothing but a shortcut

    def run(self, blocks: Iterator[bytes], size: int) -> Report:
        """The findings; `size` is a guess at how many bytes are to come."""
        first = b""  # what is held back until the format is known
        try:
            while len(first) < _BEGINNING and (block := next(blocks, b"")):
                first += block
            refuse_other_encodings(first, self.reader.name)
            refuse_other_formats(first, self.reader.name, self._path)
            self.index.seen.expect(size // max(1, len(first)) * first.count(b"\n"))
            start = len(_BOM) if first.startswith(_BOM) else 0
            held, first = first[start:], b""
            self._read(lines(self._counted(chain((held,), blocks)), self.reader.max_row, start))
        except InputCutOff as error:
            number = self._next_line(first)
            raise InputRefused(f"{error} (it ends within line {number:,})") from error
        except LineWithoutEnd as error:
            number = self._next_line(first)
            raise InputRefused(
                f"{error}, found one of more than {self.reader.max_row + MOST_CUT:,}",
                ("cut it out, or raise ", Option("max_row")),
                f"{self.reader.name}:{number}",
            ) from None
        self.report.rows = len(self.index)
        return self.report

    def _next_line(self, held: bytes) -> int:
        """The number of the line that follows those read and those `held` back."""
        return len(self.index) + self.report.blank_lines + held.count(b"\n") + 1

    def take(self, offset: int, line: bytes) -> None:
        """Go on with one line more."""
        self._read(iter(((offset, line),)))
        self.report.rows = len(self.index)

    def _counted(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self.report.size += len(block)
            yield block

    def _read(self, numbered: Iterator[tuple[int, bytes]]) -> None:
        index, report, mark = self.index, self.report, self.reader.mark
        admit, max_row, too_large = self.reader.intake.admit, self.reader.max_row, self.reader.found
        add, place, checked = index.seen.add, index.offsets.append, index.sums.append
        token_cap, shape_of = self.reader.intake.token_cap, self._shape_of
        add_kind = index.kind_of.append
        last_endpoint, last_model, last_cap, share, number = None, None, 0, Share(), READ
        result = result_tokens(last_cap)
        last_form, form_of, last_fields = None, None, None
        usual = capped = False  # of rows with these fields
        end = 0
        for offset, line in numbered:
            size = len(line)
            if not size or line.isspace():
                report.blank_lines += 1
                index.blank_before(len(index))
                continue
            kept = READ
            found = admit(line) if size <= max_row else too_large(line)
            end = offset + size
            if type(found) is Admitted:
                key, endpoint, model, form, value, body = found
                if key is None:
                    text = canonical(value)
                    key = content_key(text)
                else:
                    text = canonical(value, 0)
                if text != line and text.count(b'"') != line.count(b'"'):  # bytes that are equal need no count
                    self._warn_of_doubled_keys(line)
                fields = tuple(body)
                if fields != last_fields or form is not last_form or endpoint is not form_of:
                    last_fields, last_form, form_of = fields, form, endpoint
                    usual, capped = shape_of(fields, form, endpoint)
                if not usual:
                    self._warn_of_overrides(endpoint, body)
                    self._warn_of_fields(endpoint, form, body)
                if add(mark(key)) or self._seen_before(offset, key, found):
                    cap = token_cap(body) if capped else 0
                    if model != last_model or endpoint is not last_endpoint:
                        last_endpoint, last_model, share = endpoint, model, report.share(endpoint.path, model)
                        number = READ
                    if number == READ or cap != last_cap:
                        last_cap, number = cap, index.kind((model, cap, endpoint.path))
                        result = result_tokens(cap)
                    if "metadata" not in value and WINDOW_IN not in body:
                        kept = number
                    share.rows += 1
                    share.size += size
                    share.answers += result
            else:
                self._reject(offset, line, found)
            if size > report.largest:
                report.largest, report.largest_line = size, self._line()
            place(offset)
            checked(crc32(line))
            add_kind(kept)
        index.end = end

    def _shape_of(self, fields: tuple[str, ...], form: Form, endpoint: Endpoint) -> tuple[bool, bool]:
        """Whether nothing is to be said of bodies with these fields, and whether they may have a cap of tokens."""
        shape = fields, form, endpoint.path
        found = self._shapes.get(shape)
        if found is None:
            found = has_usual_fields(endpoint, form, fields), self.reader.intake.may_cap(fields)
            if len(self._shapes) < _REMEMBERED:
                self._shapes[shape] = found
        return found

    def _line(self) -> int:
        return self.index.line_of(len(self.index))

    def _reject(self, offset: int, line: bytes, found: Rejection) -> None:
        self.index.bad.append(len(self.index))
        self.index.doubled.append(0)
        self.report.problems.add(self._line(), found.code, found.message)
        key = base_key(line, found)
        if not self.index.seen.add(self.reader.mark(key)):
            self._seen_before(offset, key, found)

    def _seen_before(self, offset: int, key: str, found: Admitted | Rejection) -> bool:
        """A row whose mark stands in the table: it is like an earlier one, or it is chance. False if that bars it."""
        index, ordinal = self.index, len(self.index)
        index.end = offset  # the line before it may be the one to compare with
        first = self._first(key)
        doubled = first is not None and found.custom_id is not None
        if first is not None and doubled:
            if type(found) is Admitted:
                index.bad.append(ordinal)
                index.doubled.append(1)
                self.report.problems.add(self._line(), "duplicate_id", doubled_message(key, index.line_of(first)))
            else:
                index.doubled[-1] = 1
            key = content_key(key.encode(), of="id")
            if index.seen.add(self.reader.mark(key)):
                return False
            first = self._first(key)
        if first is None:
            index.seen.put(self.reader.mark(key))
            return not doubled
        number = index.alike(first) + 1
        while not self._take(f"{key}-{number}"):
            number += 1  # somebody's custom_id
        index.set_alike(first, ordinal, number)
        return not doubled

    def _take(self, key: str) -> bool:
        mark = self.reader.mark(key)
        if self.index.seen.add(mark):
            return True
        if self.reader.find(key) is not None:
            return False
        self.index.seen.put(mark)
        return True

    def _first(self, key: str) -> int | None:
        if (first := self._firsts.get(key)) is None and (first := self.reader.find(key)) is not None:
            if len(self._firsts) >= _REMEMBERED:
                self._firsts.clear()
            self._firsts[key] = first
        return first

    def _warn_of_doubled_keys(self, line: bytes) -> None:
        """Quotes are missing where a key that stands twice was read once; an escaped quote looks the same."""
        for name in duplicate_keys(line):
            message = f"{visible(name, 60)!r} occurs twice in one object: the last one counts"
            self.report.warnings.add(self._line(), "duplicate_key", message)

    def _warn_of_overrides(self, endpoint: Endpoint, body: dict[str, object]) -> None:
        for word in overridden(endpoint, body):
            name = word.removesuffix("_overridden")
            message = f"batchrun sets {name} itself: the row's value is not sent"
            self.report.warnings.add(self._line(), word, message)

    def _warn_of_fields(self, endpoint: Endpoint, form: Form, body: dict[str, object]) -> None:
        """Warn of an odd prompt in each row, and of a field that the endpoint is not known to have once."""
        if (odd := odd_prompt(endpoint, form, body)) is not None:
            self.report.warnings.add(self._line(), "odd_prompt", odd)
        names = (endpoint.path, tuple(body))
        if names in self._fields or len(self._unknown) >= _REMEMBERED:
            return
        if len(self._fields) >= _REMEMBERED:
            self._fields.clear()
        self._fields.add(names)
        for name in unknown_fields(endpoint, form, body):
            if (endpoint.path, name) not in self._unknown:
                self._unknown.add((endpoint.path, name))
                message = unknown_field_message(endpoint, form, name)
                self.report.warnings.add(self._line(), "unknown_body_field", message)
