"""Removes secrets from all text from outside, in every form in which a service echoes them.

It is done twice. Every response is searched where it is received, before it is parsed, for the few forms that are
found at the speed of memory (`Redactor.raw`): polls of running jobs, of which nothing is kept, cost no more. What is
kept or shown is searched again for what a parser would turn into the secret (`Redactor.hidden`): with any of its
characters escaped as in JSON (``\\u002B``, ``\\/``, to any depth), in percent or as an HTML entity, and in UTF-16 or
UTF-32. What is found so is removed from the bytes as they were received, and the response is read again.

Declined: to search the strings of the parsed body instead, since a body of 60 MB holds millions; and one regular
expression for each secret, which takes ten times as long.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import quote, quote_plus

import anyio.lowlevel

from batchrun.core.responses.http import Answer
from batchrun.core.settings.settings import Secret
from batchrun.core.text.readable import visible

MARK = "[redacted]"

_SHORTEST_BASE64 = 4  # characters of a form


class Redactor:
    """Knows the secrets of a run."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._forms: tuple[bytes, ...] = ()
        self._plain: tuple[bytes, ...] = ()  # those without escapes
        for secret in secrets:
            self.learn(secret)

    def learn(self, secret: Secret) -> None:
        """Redact `secret` too from now on: a renewed token."""
        if secret.is_searched_for:
            self.learn_value(secret.reveal())

    def learn_value(self, value: str) -> None:
        """Redact `value` too from now on, however short it is."""
        known = dict.fromkeys((*self._forms, *_forms_of(value)))
        self._forms = tuple(sorted(known, key=len, reverse=True))
        self._plain = tuple(dict.fromkeys((*self._plain, *_unescaped(value.encode()), *_base64_forms(value.encode()))))

    def raw(self, data: bytes) -> bytes:
        """`data` without secrets that are not hidden; the very same object where there are none."""
        for form in self._forms:
            if form in data:
                data = data.replace(form, MARK.encode())
        return data

    def headers(self, headers: dict[str, str]) -> dict[str, str]:
        joined = "\n".join(headers.values()).encode("utf-8", "surrogatepass")  # no secret contains a line feed
        for form in self._forms:
            if form in joined:
                return {name: self.text(value) for name, value in headers.items()}
        return headers

    def text(self, text: str) -> str:
        """`text` without secrets, hidden ones included."""
        data = self.raw(text.encode("utf-8", "surrogatepass"))
        found = [place for places in self._search(data) for place in places]
        return _without(data, found).decode("utf-8", "surrogatepass")

    def shown(self, text: str, limit: int = 300) -> str:
        """`text` without secrets, on one line, nothing hidden in it; redacted before it is cut."""
        return visible(self.text(text), limit)

    async def hidden(self, answer: Answer) -> Answer:
        """`answer` without secrets, hidden ones included; the very same object where there are none.

        A long body is searched slice by slice, and others get their turn between.
        """
        headers, body = answer.headers, answer.body
        found: list[Place] = []
        for places in self._search(body):
            found += places
            if len(body) > _SLICE:
                await anyio.lowlevel.cancel_shielded_checkpoint()  # the response is here, and may be paid for
        if _may_hide("\n".join(headers.values()).encode("utf-8", "surrogatepass")):
            clean = {name: self.text(value) for name, value in headers.items()}
            headers = clean if clean != headers else headers
        if not found and headers is answer.headers:
            return answer
        return Answer(answer.status, headers, _without(body, found))

    def filter(self, record: logging.LogRecord) -> bool:
        """A logging filter: the record passes, without secrets."""
        record.msg = self.text(record.getMessage())
        record.args = ()
        return True

    def _search(self, data: bytes) -> Iterator[list[Place]]:
        """Where the hidden secrets are in each slice of `data`."""
        if not self._plain or not _may_hide(data):
            return
        overlap = _LONGEST_ESCAPE * max(map(len, self._plain))
        for start in range(0, len(data), _SLICE):
            part = data[start : start + _SLICE + overlap]
            if any(form in text for text in _unescaped(part) for form in self._plain):
                yield [Place(start + place.start, start + place.end) for place in _places(part, self._plain)]
            else:
                yield []


# --- escapes, and where a secret is whose characters are escaped ---


class Place(NamedTuple):
    """Where something is in a text."""

    start: int
    end: int


_SLICE = 1 << 17  # bytes
_LONGEST_ESCAPE = 32  # bytes of an escaped character, in UTF-16
_PASSES = 3  # escapes may be escaped in turn in another way
_ESCAPE = re.compile(
    rb"\\(?<!\\\\)\\*+(?:(?:u00|x)([2-7][0-9a-fA-F]|00)|(?=/))"  # the whole run of backslashes, so that time is linear
    rb"|%(?:25){0,4}([2-7][0-9a-fA-F])"
    rb"|&(?:#[xX]0{0,5}([2-7][0-9a-fA-F])|#0{0,5}([0-9]{2,3})|(amp|apos|quot|lt|gt));"
)
# Each escape begins with one of these bytes and is then found by the expression, both at the speed of memory.
_HINTS = tuple(
    (begin, re.compile(found))
    for begin, found in (
        (b"\\u00", rb"\\u00[02-7]"),
        (b"\\x", rb"\\x[02-7]"),
        (b"\\/", rb"\\/"),
        (b"%", rb"%[2-7][0-9a-fA-F]"),
        (b"&", rb"&(?:#[xX]?[0-9]|amp;|apos;|quot;|lt;|gt;)"),
        (b"\0", rb"\0"),
    )
)
_NAMED_ENTITIES = {b"amp": b"&", b"apos": b"'", b"quot": b'"', b"lt": b"<", b"gt": b">"}


def _may_hide(data: bytes) -> bool:
    if b"\\" not in data and b"%" not in data and b"&" not in data and b"\0" not in data:
        return False  # every hint begins with one of these, and few responses have any
    return any(begin in data and found.search(data) is not None for begin, found in _HINTS)


def _unescape(found: re.Match[bytes]) -> bytes:
    match found.lastindex:
        case None:
            return b""  # backslashes before a slash
        case 4:
            code = int(found[4])
            return bytes((code,)) if " " <= chr(code) <= "~" else found[0]
        case 5:
            return _NAMED_ENTITIES[found[5]]
        case group:
            code = int(found[group], 16)
            return bytes((code,)) if code else b""


def _unescaped(data: bytes) -> Iterator[bytes]:
    """`data` without null bytes, then without escapes, then without those that this has brought to light."""
    data = data.replace(b"\0", b"")
    yield data
    for _ in range(_PASSES):
        data, count = _ESCAPE.subn(_unescape, data)
        if not count:
            return
        yield data


def _places(data: bytes, forms: Iterable[bytes]) -> list[Place]:
    """Where in `data` the `forms` are, escaped or not."""
    found: list[Place] = []
    begins = [at for at, byte in enumerate(data) if byte]  # of each byte of the text, in `data`
    ends = [at + 1 for at in begins]
    text = data.replace(b"\0", b"")
    for _ in range(_PASSES + 1):
        for form in forms:
            at = text.find(form)
            while at >= 0:
                found.append(Place(begins[at], ends[at + len(form) - 1]))
                at = text.find(form, at + len(form))
        copied = 0
        parts: list[bytes] = []
        new_begins: list[int] = []
        new_ends: list[int] = []
        for escape in _ESCAPE.finditer(text):
            plain = _unescape(escape)
            start, end = escape.span()
            parts += (text[copied:start], plain)
            new_begins += begins[copied:start]
            new_ends += ends[copied:start]
            if len(plain) == end - start:  # it stands for itself
                new_begins += begins[start:end]
                new_ends += ends[start:end]
            elif plain:
                new_begins.append(begins[start])
                new_ends.append(ends[end - 1])
            copied = end
        if not parts:
            break
        text = b"".join((*parts, text[copied:]))
        begins, ends = new_begins + begins[copied:], new_ends + ends[copied:]
    return found


def _without(data: bytes, places: Iterable[Place]) -> bytes:
    """`data` with a mark in each of `places`; the mark is as wide as the text there."""
    kept: list[bytes] = []
    copied = 0
    for start, end in sorted(places):
        if start >= copied:
            width = end - start - 1 - len(data[start + 1 : end].lstrip(b"\0"))
            kept += (data[copied:start], (b"\0" * width).join(bytes((byte,)) for byte in MARK.encode()))
            copied = end
    return b"".join((*kept, data[copied:])) if kept else data


# --- the forms of a secret ---


def _forms_of(value: str) -> Iterator[bytes]:
    """Those that are searched for in every response."""
    yield value.encode()
    for escaped in (quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1].replace("/", "\\/")):
        yield escaped.encode()
    escaped = quote(value, safe="")
    yield re.sub("%..", lambda found: found[0].lower(), escaped).encode()
    yield json.dumps(value)[1:-1].encode()
    yield from _base64_forms(value.encode())


def _base64_forms(value: bytes) -> Iterator[bytes]:
    """The part of `value` that is the same in the base64 of any text around it: one form for each of three offsets.

    The characters at either end also hold bits of their neighbours and are left out.
    """
    for offset, start in ((0, 0), (1, 2), (2, 3)):
        encoded = base64.b64encode(b"\0" * offset + value)
        end = len(encoded.rstrip(b"=")) - (1 if encoded.endswith(b"=") else 0)
        form = encoded[start:end]
        if len(form) >= _SHORTEST_BASE64:
            yield form
            yield form.replace(b"+", b"-").replace(b"/", b"_")
