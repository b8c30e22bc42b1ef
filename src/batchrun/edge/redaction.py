"""Removes secrets from all text from outside, in every form in which a service echoes them.

It is done twice. Every response is searched where it is received, before it is parsed, for the few forms that are
found at the speed of memory (`Redactor.raw`): polls of running jobs, of which nothing is kept, cost no more. What is
kept or shown is searched once more for the forms that a parser would turn into the secret (`Redactor.hidden`): any of
its characters escaped, as in JSON (``\\u002B``, ``\\/``, to some depth), in percent or as an HTML entity; and in UTF-16 or UTF-32.
What is found so is removed from the bytes as they were received, and the response is read again.

Declined: searching the strings of the parsed body instead. A body of 60 MB holds millions of them.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from urllib.parse import quote, quote_plus

import anyio.lowlevel

from batchrun.core.responses.http import Answer
from batchrun.core.settings.settings import Secret
from batchrun.core.text.readable import visible

MARK = "[redacted]"

# Short keys of local servers (EMPTY, dummy) occur in ordinary text, as do placeholders of any length: redacting them
# would change paid results. Keys that protect anything are longer.
SHORTEST = 12  # characters

_PREFIX = 16  # characters of a form that are searched for at once; the others are compared where these are found
_SLICE = 1 << 18  # bytes that are searched before others get their turn
_OVERLAP = 1 << 12  # the longest that _PREFIX escaped characters are
_NAMED_ENTITY = {"&": "amp", "'": "apos", '"': "quot", "<": "lt", ">": "gt"}
_HINTS = (b"\\u00", b"\\x", b"\\/", b"&#", b"\0")  # one of these is in every hidden form, or the next:
_HINT = re.compile(rb"%[2-7]|&(?:amp|apos|quot|lt|gt);")


class Redactor:
    """Knows the secrets of a run. A secret shorter than `shortest`, and a placeholder, is not searched for."""

    def __init__(self, secrets: Iterable[Secret] = (), *, shortest: int = SHORTEST) -> None:
        self._shortest = shortest
        self._forms: tuple[bytes, ...] = ()
        self._hidden: dict[str, None] = {}  # what is searched for with escapes, in order
        self._patterns: dict[bool, re.Pattern[bytes]] = {}  # by whether null bytes are between the others
        for secret in secrets:
            self.learn(secret)

    def learn(self, secret: Secret) -> None:
        """Redact `secret` too from now on: a renewed token."""
        value = secret.reveal()
        if len(value) >= self._shortest and not secret.is_placeholder:
            known = dict.fromkeys((*self._forms, *_forms_of(value)))
            self._forms = tuple(sorted(known, key=len, reverse=True))
            self._hidden |= dict.fromkeys((value, *(form.decode() for form in _base64_forms(value.encode()))))
            self._patterns.clear()

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
        found = list(self._spans(data)) if self._may_hide(data) else []
        return _without(data, found).decode("utf-8", "surrogatepass")

    def shown(self, text: str, limit: int = 300) -> str:
        """`text` without secrets, on one line, nothing hidden in it; redacted before it is cut."""
        return visible(self.text(text), limit)

    async def hidden(self, answer: Answer) -> Answer:
        """`answer` without secrets, hidden ones included; the very same object where there are none.

        A body that is long and full of escapes is searched piece by piece, and others get their turn between.
        """
        status, headers, body = answer
        found: list[tuple[int, int]] = []
        if self._may_hide(body):
            for start in range(0, len(body), _SLICE):
                if start:
                    await anyio.lowlevel.checkpoint()
                found += self._spans(body, start, start + _SLICE)
        clean = {name: self.text(value) for name, value in headers.items()}
        if not found and clean == headers:
            return answer
        return Answer(status, clean, _without(body, found))

    def filter(self, record: logging.LogRecord) -> bool:
        """A logging filter: the record passes, without secrets."""
        record.msg = self.text(record.getMessage())
        record.args = ()
        return True

    def _may_hide(self, data: bytes) -> bool:
        return bool(self._hidden) and (any(hint in data for hint in _HINTS) or _HINT.search(data) is not None)

    def _spans(self, data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
        """Where the hidden secrets are that begin at `start` or after it, and before `end`."""
        end = len(data) if end is None else min(end, len(data))
        is_wide = data.find(b"\0", start, end) >= 0
        pattern = self._patterns.get(is_wide)
        if pattern is None:
            pattern = self._patterns[is_wide] = _searched(self._hidden, is_wide=is_wide)
        forms = list(self._hidden)
        while (found := pattern.search(data, start, end + _OVERLAP)) is not None and found.start() < end:
            assert found.lastindex is not None
            stop: int | None = found.end()
            for char in forms[found.lastindex - 1][_PREFIX:]:
                assert stop is not None
                more = _escaped(char, is_wide=is_wide).match(data, stop)
                stop = None if more is None else more.end()
                if stop is None:
                    break
            if stop is None:
                start = found.start() + 1
            else:
                yield found.start(), stop
                start = stop


def _without(data: bytes, spans: Iterable[tuple[int, int]]) -> bytes:
    """`data` with a mark in place of each of `spans`, which do not overlap, in order; the mark is as wide as its text."""
    kept: list[bytes] = []
    copied = 0
    for start, end in spans:
        if start < copied:
            continue
        width = end - start - 1 - len(data[start + 1 : end].lstrip(b"\0"))
        kept += (data[copied:start], (b"\0" * width).join(bytes([byte]) for byte in MARK.encode()))
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
        yield form
        yield form.replace(b"+", b"-").replace(b"/", b"_")


def _searched(forms: Iterable[str], *, is_wide: bool) -> re.Pattern[bytes]:
    """Finds the first characters of each of `forms`, each of them escaped or not; one group for each form."""
    gap = _gap(is_wide=is_wide)
    return re.compile(
        b"|".join(
            b"(" + gap.join(_escaped_text(char, gap, first=not at) for at, char in enumerate(form[:_PREFIX])) + b")"
            for form in forms
        ),
        re.DOTALL,
    )


@lru_cache(maxsize=512)
def _escaped(char: str, *, is_wide: bool) -> re.Pattern[bytes]:
    gap = _gap(is_wide=is_wide)
    return re.compile(gap + _escaped_text(char, gap), re.DOTALL)


def _gap(*, is_wide: bool) -> bytes:
    return rb"\0{0,3}" if is_wide else b""


def _escaped_text(char: str, gap: bytes, *, first: bool = False) -> bytes:
    """An expression for a printable character of ASCII in every way in which it is written.

    Runs of backslashes have an end, and a `first` one begins its run, so that a text of backslashes takes linear time.
    """
    code = ord(char)
    two = gap.join(b"[%c%c]" % (d, d - 32) if d > ord("9") else b"%c" % d for d in b"%02x" % code)
    begin = rb"\\(?<!\\\\)" if first else rb"\\"
    slashes = begin + rb"(?:" + gap + rb"\\){0,7}" + gap
    ways = [
        re.escape(char.encode()),
        slashes + b"(?:u" + gap + b"0" + gap + b"0|x)" + gap + two,
        b"%" + gap + b"(?:" + gap.join((b"2", b"5")) + gap + b"){0,3}" + two,
        b"&" + gap + b"#" + gap + b"(?:(?:0" + gap + b"){0,5}" + gap.join(b"%c" % d for d in b"%d" % code)
        + b"|[xX]" + gap + b"(?:0" + gap + b"){0,5}" + two + b")" + gap + b";?",
    ]  # fmt: skip
    if char in "\"'/\\":
        ways.append(slashes + re.escape(char.encode()))
    if char in _NAMED_ENTITY:
        ways.append(gap.join(b"%c" % byte for byte in b"&%s;" % _NAMED_ENTITY[char].encode()))
    return b"(?:" + b"|".join(ways) + b")"
