"""A scenario: how a simulated service behaves. A frozen value, parsed from a small TOML file or from flags.

Every key has a default without effect: an empty scenario is a service that completes every job after
two seconds and never refuses.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from batchrun.simulator.distributions import AT_ONCE, Distribution, ScenarioError, Trace, distribution, seconds
from batchrun.simulator.outcomes import (
    CANCEL_OUTCOMES,
    JOB_OUTCOMES,
    NOTHING,
    POLL_REFUSALS,
    SUBMIT_REFUSALS,
    Mix,
    mix,
    nearest,
    share,
)

T = TypeVar("T")
NEVER = math.inf
_TWO_SECONDS = Distribution(2.0, 2.0)
_TOKENS = Distribution(20, 200)


@dataclass(frozen=True, slots=True)
class Times:
    """How long things take; all in seconds."""

    queued: Distribution | Trace = AT_ONCE  # before a job starts
    duration: Distribution | Trace = _TWO_SECONDS  # of its work; what an endpoint that ends at the submit takes, too
    post: Distribution | Trace = AT_ONCE  # until a background POST is answered; the job exists from its beginning
    poll: Distribution | Trace = AT_ONCE  # until a poll is answered
    late: float = 3.0  # from a cancel to its delayed end: see `CANCELS`
    hidden: float = 5.0  # how long polls of a hidden job get 404 after its submit
    retention: float = NEVER  # how long after its end a job is kept; 404 from then on
    retry_after: float = 1.0  # what drawn 429s and 503s ask for
    idempotency: float = (
        0.0  # how long the Idempotency-Key of a POST is kept: with it the same job again; 0: not at all
    )


@dataclass(frozen=True, slots=True)
class Traits:
    """Shares of jobs with a peculiarity, besides their outcome."""

    hidden: float = 0.0  # 404 for times.hidden, then found
    id_changes: float = 0.0  # another id in every poll's answer (LiteLLM before vLLM does this)


@dataclass(frozen=True, slots=True)
class ScenarioLimits:
    """What is refused. Rates count per minute and are enforced over the window, as Azure does."""

    rpm: float | None = None
    tpm: float | None = None
    window: float = 1.0
    quota: int | None = None  # submits accepted before 429 insufficient_quota
    key_until: float = NEVER  # seconds from the start after which every answer is 401
    body: int = 64 * 1024 * 1024  # bytes of a request's body; 413 beyond


@dataclass(frozen=True, slots=True)
class Outage:
    """From `begin` to `end`, in seconds since the start, every request is answered `status`; 0 hangs up."""

    begin: float
    end: float
    status: int = 502


@dataclass(frozen=True, slots=True)
class Scenario:
    """How the service behaves."""

    seed: int = 0
    demo: bool = False  # ids carry the whole job, and any process answers for them
    api_key: str | None = None  # required of every request if set
    models: tuple[str, ...] = ()  # any other is refused with model_not_found; none: every model is known
    directives: bool = True  # whether rows may script themselves
    output_tokens: Distribution | Trace = _TOKENS
    image_bytes: int = 0  # of an image, about; 0: the smallest there is
    finished_cancel: int = 200  # the answer to a cancel of a finished job: 200, 400 (vLLM) or 409 (OGX)
    times: Times = Times()
    jobs: Mix = NOTHING
    submits: Mix = NOTHING
    polls: Mix = NOTHING
    cancels: Mix = NOTHING
    traits: Traits = Traits()
    limits: ScenarioLimits = ScenarioLimits()
    outages: tuple[Outage, ...] = ()


DEMO = Scenario(
    demo=True,
    times=Times(
        queued=Distribution(0.1, 0.8),
        duration=Distribution(1.5, math.inf, sigma=0.6),
        post=Distribution(0.03, 0.12),
    ),
    jobs=Mix((("server_error", 0.04), ("incomplete", 0.02), ("content_policy_violation", 0.01), ("refusal", 0.01))),
)


def load(path: Path) -> Scenario:
    """Read the scenario in file `path`; a trace that it names is in the same folder."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise ScenarioError(f"expected a scenario at {path}, got {problem}") from problem
    return parse(text, str(path), path.parent)


def parse(
    text: str,
    where: str = "scenario",
    folder: Path | None = None,
    base: Scenario = Scenario(),
) -> Scenario:
    """Parse a scenario from TOML, on top of `base`. `where` is named in errors; without `folder` no trace can be used."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise ScenarioError(f"{where}: expected TOML, got a line it does not allow: {problem}") from problem
    return amended(base, table, where, folder)


def amended(scenario: Scenario, table: Mapping[str, Any], where: str, folder: Path | None = None) -> Scenario:
    """`scenario` with the keys of `table` set; tables are merged key by key, mixes are replaced."""
    whole: Scenario = _amended(scenario, table, where, "", _readers(folder))
    return whole


def _readers(folder: Path | None) -> dict[str, Callable[[Any], Any]]:
    """The parser of each key's value, by dotted name; tables that are dataclasses have none."""

    def read_distribution(value: object) -> Distribution | Trace:
        return distribution(value, folder)

    return {
        "seed": _integer(0, 2**63 - 1),
        "demo": _boolean,
        "api_key": _text,
        "models": lambda value: tuple(map(_text, _list(value))),
        "directives": _boolean,
        "output_tokens": read_distribution,
        "image_bytes": _integer(0, 2**27),
        "finished_cancel": _one_of(200, 400, 409),
        **{f"times.{name}": read_distribution for name in ("queued", "duration", "post", "poll")},
        **{f"times.{name}": seconds for name in ("late", "hidden", "retention", "retry_after", "idempotency")},
        "jobs": lambda value: mix(_table(value), JOB_OUTCOMES),
        "submits": lambda value: mix(_table(value), SUBMIT_REFUSALS, http=True),
        "polls": lambda value: mix(_table(value), POLL_REFUSALS, http=True),
        "cancels": lambda value: mix(_table(value), CANCEL_OUTCOMES),
        "traits.hidden": share,
        "traits.id_changes": share,
        "limits.rpm": _positive,
        "limits.tpm": _positive,
        "limits.window": lambda value: _positive(seconds(value)),
        "limits.quota": _integer(0, 2**63 - 1),
        "limits.key_until": seconds,
        "limits.body": _integer(1, 2**40),
        "outages": lambda value: tuple(map(_outage, _list(value))),
    }


def _amended(target: Any, table: Mapping[str, Any], where: str, prefix: str, readers: dict[str, Any]) -> Any:
    known = [field.name for field in fields(target)]
    changes: dict[str, Any] = {}
    for key, value in table.items():
        name = prefix + key
        if key not in known:
            raise ScenarioError(f"{where}: {name}: unknown key; did you mean {prefix + nearest(key, known)!r}?")
        try:
            parsed = readers.get(name, _table)(value)
        except ScenarioError as problem:
            raise ScenarioError(f"{where}: {name}: {problem}") from problem
        nested = name not in readers
        changes[key] = _amended(getattr(target, key), parsed, where, f"{name}.", readers) if nested else parsed
    return replace(target, **changes)


def _outage(value: Any) -> Outage:
    table = _table(value)
    for key in table:
        if key not in ("from", "to", "status"):
            raise ScenarioError(f"unknown key {key!r}; did you mean {nearest(key, ('from', 'to', 'status'))!r}?")
    status: object = table.get("status", 502)
    if status != 0 and not (isinstance(status, int) and 400 <= status <= 599):
        raise ScenarioError(f"expected a status of 400 to 599, or 0 to hang up, got {status!r}")
    outage = Outage(seconds(table.get("from", 0)), seconds(table.get("to")), int(status))
    if outage.end <= outage.begin:
        raise ScenarioError(f"expected 'to' after 'from', got {outage.begin:g}s to {outage.end:g}s")
    return outage


def _a(kind: type[T], shown: str) -> Callable[[Any], T]:
    def read(value: Any) -> T:
        if not isinstance(value, kind):
            raise ScenarioError(f"expected {shown}, got {value!r}")
        return value

    return read


_table = _a(dict, "a table")
_list = _a(list, "a list")
_boolean = _a(bool, "true or false")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
        raise ScenarioError(f"expected printable ASCII text, got {value!r}")
    return value


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ScenarioError(f"expected a number above 0, got {value!r}")
    return float(value)


def _integer(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ScenarioError(f"expected a whole number of at least {least}, got {value!r}")
        return value

    return read


def _one_of(*allowed: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if value not in allowed:
            raise ScenarioError(f"expected one of {', '.join(map(str, allowed))}, got {value!r}")
        return int(value)

    return read
