"""The settings of a call, by name and type, for checkers and editors; a test compares them with `Settings`."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, TypedDict

Seconds: TypeAlias = float | str
"""Seconds, or a text as on the command line: ``"90s"``, ``"24h"``."""
Size: TypeAlias = int | str
"""Bytes, or a text such as ``"64MiB"``."""
ApiKey: TypeAlias = str | Callable[[], str] | Callable[[], Awaitable[str]] | None
"""An API key, or a function that returns one; None takes it from the environment."""
Paths: TypeAlias = str | os.PathLike[str]


class SettingArguments(TypedDict, total=False):
    """The settings as keyword arguments: each is a flag of the command, with the same default."""

    service: Paths | None
    base_url: str | None
    allow_http: bool
    key_file: Paths | None
    token_command: str | None
    model: str | None
    set: Mapping[str, Any] | Iterable[str]
    skip_bad: bool
    max_row: Size
    limit: int | None
    concurrency: int
    submits: int
    rpm: float | None
    tpm: float | None
    pacing: Literal["learned", "backoff"]
    lag: Seconds
    poll_min: Seconds
    poll_max: Seconds
    poll_rate: float
    rate: str
    connections: int
    transport: Literal["own", "httpx"]
    wire: Literal["own", "httpx"]  # the earlier name of `transport`
    retries: int
    retry_budget: int | None
    deadline: Seconds
    max_wait: Seconds | None
    drain: Seconds
    connect_timeout: Seconds
    submit_timeout: Seconds
    answer_timeout: Seconds
    poll_timeout: Seconds
    cancel_timeout: Seconds
    cancel_settle: Seconds
    cancel_patience: Seconds
    cancel_on_interrupt: bool
    detach: bool
    keep_going: bool
    retry_failed: bool | str | Iterable[str]
    resubmit_unconfirmed: bool
    accept_changes: bool
    new_journal: bool
    repair: bool
    write_off: bool
    artifacts: Paths | None
    max_body: Size
    max_memory: Size
