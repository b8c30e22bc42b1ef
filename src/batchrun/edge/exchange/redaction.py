"""Removes secrets from everything received, in every form in which a service echoes them."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from batchrun.core.settings.secret import Secret
from batchrun.core.text.printable import visible

MARK = "[redacted]"

# Placeholders of local servers (EMPTY, dummy, sk-1234) occur in ordinary text: redacting them would change paid
# results. Keys that protect anything are longer.
SHORTEST = 12  # characters


class Redactor:
    """Knows the secrets of a run, and finds them exact, URL-encoded, JSON-escaped and within base64."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._forms: tuple[bytes, ...] = ()
        for secret in secrets:
            self.learn(secret)

    def learn(self, secret: Secret) -> None:
        """Redact `secret` too from now on: a renewed token."""
        value = secret.reveal()
        if len(value) >= SHORTEST:
            known = dict.fromkeys((*self._forms, *_forms_of(value)))
            self._forms = tuple(sorted(known, key=len, reverse=True))

    def raw(self, data: bytes) -> bytes:
        """`data` without secrets; the very same object where there are none."""
        for form in self._forms:
            if form in data:
                data = data.replace(form, MARK.encode())
        return data

    def text(self, text: str) -> str:
        return self.raw(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def shown(self, text: str, limit: int = 300) -> str:
        """`text` without secrets, on one line, nothing hidden in it; redacted before it is cut."""
        return visible(self.text(text), limit)

    def headers(self, headers: dict[str, str]) -> dict[str, str]:
        joined = "\n".join(headers.values()).encode("utf-8", "surrogatepass")
        if not any(
            form in joined for form in self._forms
        ):  # one search for all headers; no secret contains a line feed
            return headers
        return {name: self.text(value) for name, value in headers.items()}

    def filter(self, record: logging.LogRecord) -> bool:
        """A logging filter: the record passes, without secrets."""
        record.msg = self.text(record.getMessage())
        record.args = ()
        return True


def _forms_of(value: str) -> Iterable[bytes]:
    yield value.encode()
    for escaped in (quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1].replace("/", "\\/")):
        yield escaped.encode()
    escaped = quote(value, safe="")
    yield re.sub("%..", lambda found: found[0].lower(), escaped).encode()
    yield json.dumps(value)[1:-1].encode()
    yield from _base64_forms(value.encode())


def _base64_forms(value: bytes) -> Iterable[bytes]:
    """The part of `value` that is the same in the base64 of any text around it: one form for each of three offsets.

    The characters at either end also hold bits of their neighbours and are left out.
    """
    for offset, start in ((0, 0), (1, 2), (2, 3)):
        encoded = base64.b64encode(b"\0" * offset + value)
        end = len(encoded.rstrip(b"=")) - (1 if encoded.endswith(b"=") else 0)
        form = encoded[start:end]
        yield form
        yield form.replace(b"+", b"-").replace(b"/", b"_")
