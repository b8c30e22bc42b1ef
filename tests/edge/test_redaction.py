"""Secrets in all text from outside, in every form in which a parser would find them (h12, h18)."""

import asyncio
import base64
import json
import logging
import random
from urllib.parse import quote

import pytest

from batchrun.core.responses.http import Answer
from batchrun.core.settings.settings import Secret
from batchrun.edge.redaction import Redactor

KEY = "sk-canary/+&4f9c0e7ab1"


def unicode_escaped(text, of=str.isprintable, form="\\u{:04x}"):
    return "".join(form.format(ord(char)) if of(char) else char for char in text)


FULL = unicode_escaped(KEY)
HIDDEN = {
    "one JSON escape": KEY.replace("+", "\\u002B"),
    "all JSON escapes": FULL,
    "capital digits": unicode_escaped(KEY, form="\\u{:04X}"),
    "some JSON escapes": unicode_escaped(KEY, "skc4".__contains__),
    "slash": KEY.replace("/", "\\/"),
    "JSON in JSON": json.dumps(FULL)[1:-1],
    "JSON in JSON in JSON": json.dumps(json.dumps(FULL)),
    "after a backslash": f"C:\\\\{FULL}\\\\",
    "bytes of Python": unicode_escaped(KEY, form="\\x{:02x}"),
    "URL, but not its slash": quote(KEY),
    "URL twice": quote(quote(KEY, safe=""), safe=""),
    "URL, all of it": unicode_escaped(KEY, form="%{:02x}"),
    "URL in JSON": quote(KEY, safe="").replace("%", "\\u0025"),
    "HTML": KEY.replace("&", "&amp;"),
    "HTML numbers": unicode_escaped(KEY, form="&#{};"),
    "HTML numbers, hexadecimal": unicode_escaped(KEY, form="&#x{:X};"),
    "base64 as PHP writes it": base64.b64encode(f"ab{KEY}".encode()).decode().replace("/", "\\/"),
    "base64, escaped": unicode_escaped(base64.b64encode(f"user:{KEY}x".encode()).decode()),
    "UTF-16 in JSON": "".join(f"{char}\\u0000" for char in KEY),
}  # fmt: skip


def hidden(redactor, body, **headers):
    return asyncio.run(redactor.hidden(Answer(200, headers, body)))


@pytest.mark.parametrize("charset", ["utf-8", "utf-16", "utf-16-be", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("form", [*HIDDEN, "as it is"])
def test_h18_a_hidden_key_is_found_in_a_body(form, charset):
    echo = HIDDEN.get(form, KEY)
    redactor = Redactor([Secret(KEY, "OPENAI_API_KEY")])
    body = f'{{"é": "before {echo} after", "n": 1}}'.encode(charset)
    found = hidden(redactor, redactor.raw(body)).body.decode(charset)
    assert "[redacted]" in found
    assert found.startswith('{"é": "before ')
    assert found.endswith(' after", "n": 1}')
    middle = len(echo) // 2
    assert all(part not in found for part in (KEY[3:9], echo[middle - 6 : middle + 6]))


@pytest.mark.parametrize("form", HIDDEN)
def test_h18_a_hidden_key_is_found_in_a_header_a_message_and_a_log(form):
    redactor = Redactor([Secret(KEY, "OPENAI_API_KEY")])
    echo = HIDDEN[form]
    received = redactor.headers({"x_request_id": echo})
    assert "[redacted]" in hidden(redactor, b"{}", **received).headers["x_request_id"]
    assert "[redacted]" in redactor.shown(f"the proxy said {echo}")
    record = logging.LogRecord("httpcore", 10, "", 0, "got %s", (echo,), None)
    assert redactor.filter(record)
    assert "[redacted]" in record.getMessage()


def test_what_holds_no_key_stays_the_very_same():
    redactor = Redactor([Secret(KEY, "OPENAI_API_KEY")])
    for body in (b'{"a": "\\u0073\\u006b-canary \\/ 100% &amp; %25"}', "\0caf\xe9".encode("utf-16"), b"\\" * 1_000):
        answer = Answer(200, {"x": "50% \\u0041"}, body)
        assert asyncio.run(redactor.hidden(answer)) is answer


def test_a_long_secret_is_found_whole_and_its_beginning_alone_is_none():
    """All JSON web tokens begin alike."""
    token = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9." + "".join(random.Random(1).choices("abcXYZ019_-", k=3_000))
    redactor = Redactor([Secret(token, "--token-command")])
    assert hidden(redactor, f'"{unicode_escaped(token)}"'.encode()).body == b'"[redacted]"'
    other = f'"{unicode_escaped(token[:1_000])}"'.encode()
    assert hidden(redactor, other).body is other


@pytest.mark.parametrize("shift", [0, 7, 40, 100, 130])
def test_a_key_across_two_slices_of_a_long_body_is_found_once(shift):
    redactor = Redactor([Secret(KEY, "OPENAI_API_KEY")])
    fill = b"x" * ((1 << 17) - shift)
    body = hidden(redactor, fill + FULL.encode() + fill + FULL.encode()).body
    assert body == fill + b"[redacted]" + fill + b"[redacted]"
    assert redactor.text((fill + FULL.encode()).decode() * 2) == body.decode()


@pytest.mark.parametrize(
    "secret", ["your-api-key", "<your-api-key>", "sk-your-api-key-here", "not-required", "short-key"]
)
def test_what_protects_nothing_is_not_searched_for(secret):
    redactor = Redactor([Secret(secret, "OPENAI_API_KEY")])
    body = f'{{"text": "put {secret} here, {unicode_escaped(secret)}"}}'.encode()
    assert redactor.raw(body) is body
    assert hidden(redactor, body).body is body


HOSTILE = {
    "escapes": b"\\u0041",
    "backslashes": b"\\",
    "percent": b"%25",
    "null bytes": b"s\0",
    "backslashes in UTF-16": b"\\\0",
    "entities": b"&#",
    "half the key": b"\\u0073k-canary/",
}


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_long_body_full_of_escapes_leaves_turns_to_others(piece):
    """One for every slice."""
    redactor = Redactor([Secret(KEY, "OPENAI_API_KEY")])
    body = b"\\u0041" + HOSTILE[piece] * (2_000_000 // len(HOSTILE[piece]))

    async def main():
        turns = 0

        async def others():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(others())
        answer = await redactor.hidden(Answer(200, {}, body))
        task.cancel()
        return answer.body, turns

    same, turns = asyncio.run(main())
    assert same is body
    assert turns >= 2_000_000 // (1 << 17)
