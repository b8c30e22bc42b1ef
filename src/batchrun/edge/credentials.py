"""API keys from the machine: a file that only its owner reads, or a command that prints a token; or from the program.

Never from a flag: a command line is visible in the process list and in the shell's history. A token
expires, so its command runs again before that, and once after a 401; however many exchanges ask at the same
time, it runs once.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import inspect
import json
import os
import re
import shlex
import signal
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from batchrun.core.settings.settings import Secret, UsageError
from batchrun.core.text.readable import PREFIX, Option, without_keys
from batchrun.edge.redaction import Redactor

_OPTION = Option("token_command")
_FUNCTION = "api_key"
MAX_BYTES = 65_536  # of a file, or of what a command prints
COMMAND_TIMEOUT = 60.0  # seconds
MARGIN = 300.0  # seconds before its expiry at which a token is renewed
UNKNOWN_LIFE = 600.0  # seconds after which a token without an expiry is renewed
_SHORTEST = 8  # characters of what is not shown of a command's stderr
_MOST_WORDS = 20
_SECRET_NAME = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)


def read_key_file(path: Path | str) -> Secret:
    """The API key in `path`: one line. Raises UsageError unless only the owner can read the file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        problem = None
    except (OSError, ValueError) as error:  # a ValueError for a null byte
        problem = getattr(error, "strerror", None) or "not a path"
    if problem is not None:  # the path is not shown, nor is an exception that has it: it may be the key itself
        raise UsageError(
            f"expected the path of a file with an API key, but it cannot be opened: {problem}",
            "name the file; the API key itself goes into the service's variable",
            Option("key_file"),
        )
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path}: expected a plain file with an API key; give another")
        if status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise UsageError(
                f"{path}: expected mode 0600, got {mode:04o}: others may read the API key; chmod 600 {path}"
            )
        content = os.read(descriptor, MAX_BYTES)
    finally:
        os.close(descriptor)
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: expected an API key in ASCII, got other bytes; write only the key") from None
    return Secret(text.removesuffix("\n").removesuffix("\r"), str(path))


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token; `expires_at` in seconds since 1970, None if unknown."""

    secret: Secret
    expires_at: float | None


class KeySource(ABC):
    """API keys or tokens that are renewed. `clock` is the time of day in seconds since 1970."""

    def __init__(self, *, limit: float, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = asyncio.Lock()
        self._token: Token | None = None
        self._renew_at = 0.0

    async def current(self) -> Secret:
        """A token that does not expire soon. Raises UsageError if there is none."""
        async with self._lock:
            if self._token is None or self._clock() >= self._renew_at:
                await self._renew()
            assert self._token is not None
            return self._token.secret

    async def renewed(self, refused: Secret) -> Secret:
        """Another token than `refused`, which got a 401; maybe one that was renewed meanwhile."""
        async with self._lock:
            if self._token is None or self._token.secret == refused:
                await self._renew()
            assert self._token is not None
            return self._token.secret

    async def _renew(self) -> None:
        self._token = await self._fetch()
        now, expires_at = self._clock(), self._token.expires_at
        # A token that lives less than twice the margin is renewed at half of its life, not at every use.
        self._renew_at = now + UNKNOWN_LIFE if expires_at is None else max(expires_at - MARGIN, (now + expires_at) / 2)

    @abstractmethod
    async def _fetch(self) -> Token:
        """A new token."""


class TokenCommand(KeySource):
    """Tokens from a command of the user, such as ``az account get-access-token``.

    `command` is split as a shell would, but run without one. It may print the token alone, or JSON with it
    (``accessToken``, ``access_token`` or ``token``, and ``expires_on`` or ``expires_in``).
    """

    def __init__(self, command: str, *, limit: float = COMMAND_TIMEOUT, clock: Callable[[], float] = time.time) -> None:
        super().__init__(limit=limit, clock=clock)
        try:
            self._argv = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"expected a command line: {str(error).lower()}", "quote it again", _OPTION) from None
        if not self._argv:
            raise UsageError("expected a command line, got nothing", "give a command that prints a token", _OPTION)

    async def _fetch(self) -> Token:
        return read_token(await self._run_command(), self._clock())

    def _message_in(self, errors: bytes, printed: bytes) -> str:
        """What the command wrote to stderr, on one line, without secrets."""
        redactor = Redactor()
        for value in _secrets_around(printed):
            redactor.learn_value(value)
        if self._token is not None:
            redactor.learn_value(self._token.secret.reveal())
        return redactor.shown(without_keys(" ".join(errors.decode("utf-8", "replace").split())))

    async def _run_command(self) -> bytes:
        name = self._argv[0]
        try:
            process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise UsageError(f"{name} cannot be run: {error.strerror}", "give its full path", _OPTION) from None
        try:
            async with asyncio.timeout(self._limit):
                printed, errors = await asyncio.gather(_head(process.stdout), _head(process.stderr))
                code = await process.wait()
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its children too: they have our pipes open
            with anyio.CancelScope(shield=True):  # a cancelled scope would not let us wait
                await process.wait()
            if not isinstance(error, TimeoutError):
                raise
            raise UsageError(
                f"{name} gave no token within {self._limit:g} s", "try it by hand, it may wait for input", _OPTION
            ) from None
        if code != 0:
            message = self._message_in(errors, printed)
            raise UsageError(
                f"{name} failed with exit code {code}: {message or 'it printed nothing'}", "try it by hand", _OPTION
            )
        return printed


class KeyFunction(KeySource):
    """Keys from a function of the program, which may be async; one that is not is called in a thread, as it may wait."""

    def __init__(
        self,
        function: Callable[[], Any],
        *,
        limit: float = COMMAND_TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(limit=limit, clock=clock)
        self._function = function

    async def _fetch(self) -> Token:
        try:
            async with asyncio.timeout(self._limit):
                if inspect.iscoroutinefunction(self._function):
                    found = await self._function()
                else:
                    found = await anyio.to_thread.run_sync(self._function, abandon_on_cancel=True)
                    if inspect.isawaitable(found):
                        found = await found
        except TimeoutError:
            raise UsageError(f"the function gave no API key within {self._limit:g} s", "", _FUNCTION) from None
        except Exception as error:
            # Its text may quote what must not be shown; the cause is kept for whoever debugs the function.
            raise UsageError(
                f"the function raised {type(error).__name__} and gave no API key", "", _FUNCTION
            ) from error
        if not isinstance(found, str):
            raise UsageError(f"expected a function that returns a string, got {type(found).__name__}", "", _FUNCTION)
        expires_at = _number(_expiry_of_jwt(found))
        return Token(Secret(found, _FUNCTION), expires_at if expires_at and expires_at > self._clock() else None)


def _secrets_around(printed: bytes) -> Iterator[str]:
    """What a command may echo that must not be shown: what it printed as a token, and secrets of its environment."""
    words = re.findall(r"[^\s\"',{}\[\]]{8,}", printed.decode("utf-8", "replace"))
    yield from sorted(set(words), key=len, reverse=True)[:_MOST_WORDS]
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and not name.startswith(PREFIX) and len(value) >= _SHORTEST:
            yield value


def read_token(printed: bytes, now: float) -> Token:
    """The token in what a command printed; what it printed is never quoted."""
    text = printed.decode("utf-8", "replace").strip()
    fields: dict[str, Any] = {}
    if text.startswith("{"):
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            raise UsageError("expected a token or JSON with one, got broken JSON", "try it by hand", _OPTION) from None
        names = ("accessToken", "access_token", "token")
        text = next((fields[name] for name in names if isinstance(fields.get(name), str)), "")
        if not text:
            raise UsageError(f"expected JSON with one of {', '.join(names)}", "it must print only the token", _OPTION)
    elif len(text.split()) != 1:
        raise UsageError(f"expected one token, got {len(text.split())} words", "it must print only the token", _OPTION)
    secret = Secret(text, _OPTION)
    for value, offset in (
        (fields.get("expires_on"), 0.0),
        (fields.get("expires_in"), now),
        (_expiry_of_jwt(text), 0.0),
    ):
        if (seconds := _number(value)) is not None and seconds + offset > now:
            return Token(secret, seconds + offset)
    return Token(secret, None)


async def _head(stream: asyncio.StreamReader | None) -> bytes:
    """The beginning of `stream`, up to MAX_BYTES; the rest is read and dropped, so that the writer does not block."""
    assert stream is not None
    kept = bytearray()
    while chunk := await stream.read(16_384):
        kept += chunk[: MAX_BYTES - len(kept)]
    return bytes(kept)


def _expiry_of_jwt(token: str) -> Any:
    """The `exp` of a JSON web token, unverified: it only decides when to renew. Raises UsageError for what no issuer writes."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return None
    except RecursionError:
        raise UsageError(
            "expected a JSON web token, got one whose claims are nested too deeply to be read",
            "try it by hand",
            _OPTION,
        ) from None
    return claims.get("exp") if isinstance(claims, dict) else None


def _number(value: Any) -> float | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return float(value)
    return (
        float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15 else None
    )
