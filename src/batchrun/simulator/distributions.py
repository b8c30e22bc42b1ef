"""How long things take on the service: one small language for a scenario's times and sizes.

- ``2s`` (also ``50ms``, ``1.5m``, ``2h``, or a bare number of seconds): always the same
- ``50ms..300ms``: uniform between the two
- ``lognormal(2s, 0.8)``: the median, and the sigma of the logarithm; services' durations look like this
- ``trace(FILE)`` or ``trace(FILE, 0.1)``: drawn from a trace's rows, all times multiplied by the second number

A trace is a CSV file with the columns ``ContextTokens`` and ``GeneratedTokens`` (lines that begin with
``#`` are skipped). It has sizes, not times, so a duration is computed from them by this model, which is to be
stated with every figure drawn from it:

    duration = 0.5 s + 0.25 ms × ContextTokens + 30 ms × GeneratedTokens

A distribution draws nothing itself: `at(u)` is the value at the quantile `u` in [0, 1).
"""

from __future__ import annotations

import csv
import math
import re
import struct
from array import array
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import orjson

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_QUANTITY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(ms|s|m|h)?", re.ASCII)
_CALL = re.compile(r"(lognormal|trace)\(([^,()]+)(?:,([^,()]+))?\)")
_NORMAL = NormalDist()
_SMALLEST = 1e-12  # the normal distribution's quantile of 0 is infinite


class ScenarioError(ValueError):
    """A scenario cannot be used; the message says where and what to write instead."""


def seconds(value: object) -> float:
    """A time in a scenario, in seconds: ``"50ms"``, ``"2s"``, ``1.5``."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and math.isfinite(value):
        return float(value)
    found = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ScenarioError(f"expected a time such as '50ms', '2s' or '1h', got {value!r}")
    return float(found[1]) * _UNITS[found[2] or ""]


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution over [low, high], or log-normal with median `low` where `sigma` is given."""

    low: float
    high: float
    sigma: float = 0.0

    def at(self, u: float) -> float:
        """The value at quantile `u`."""
        if self.sigma:
            return self.low * math.exp(self.sigma * _NORMAL.inv_cdf(max(u, _SMALLEST)))
        return self.low + (self.high - self.low) * u

    def tokens(self, u: float) -> int | None:  # noqa: ARG002 - a trace knows sizes by quantile, others do not
        """Generated tokens of the job at quantile `u`, where the distribution has them."""
        return None


@dataclass(frozen=True, slots=True)
class Trace:
    """The rows of a trace: the duration and generated tokens of each."""

    durations: array[float] = field(repr=False)
    generated: array[int] = field(repr=False)

    def at(self, u: float) -> float:
        return self.durations[int(u * len(self.durations))]

    def tokens(self, u: float) -> int | None:
        return self.generated[int(u * len(self.generated))]


AT_ONCE = Distribution(0.0, 0.0)


def fixed(value: float) -> Distribution:
    return Distribution(value, value)


def distribution(value: object, folder: Path | None = None) -> Distribution | Trace:
    """Parse a distribution. A trace's file is in `folder`; without a folder traces are refused."""
    if not isinstance(value, str):
        return fixed(seconds(value))
    if called := _CALL.fullmatch(value.strip()):
        name, first, second = called.groups()
        if name == "trace":
            return _trace(first.strip(), _number(second or "1", "a factor"), folder)
        return Distribution(seconds(first), math.inf, _number(second or "", "a sigma such as 0.8"))
    low, dots, high = value.partition("..")
    try:
        least, most = seconds(low), seconds(high if dots else low)
    except ScenarioError:
        raise ScenarioError(
            f"expected '2s', '50ms..300ms', 'lognormal(2s, 0.8)' or 'trace(FILE)', got {value!r}"
        ) from None
    if most < least:
        raise ScenarioError(f"expected the smaller time first, got {value!r}; write '{high}..{low}'")
    return Distribution(least, most)


def _number(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ScenarioError(f"expected {what}, got {text.strip()!r}")
    return number


def _trace(name: str, factor: float, folder: Path | None) -> Trace:
    if folder is None:
        raise ScenarioError(f"expected no file here, got trace({name}); name traces in a file or flag at the start")
    path = folder / name
    durations, generated = array("d"), array("L")
    try:
        with path.open(newline="") as lines:
            for row in csv.DictReader(line for line in lines if not line.startswith("#")):
                context, tokens = int(row["ContextTokens"]), int(row["GeneratedTokens"])
                durations.append(factor * (0.5 + 0.00025 * context + 0.03 * tokens))
                generated.append(tokens)
    except OSError as problem:
        raise ScenarioError(f"expected a trace at {path}, got {problem.strerror}") from problem
    except (KeyError, TypeError, ValueError) as problem:
        raise ScenarioError(
            f"expected a CSV with ContextTokens and GeneratedTokens at {path}, got {problem} in row {len(generated) + 1}"
        ) from problem
    if not durations:
        raise ScenarioError(f"expected at least one row in the trace {path}, got none")
    return Trace(durations, generated)


# --- Random draws that repeat: each follows from the seed, the row and its turn ---
#
# Order of arrival is no argument. A batch that is sent again with the same seed, in any order and at any
# concurrency, gets the same outcomes; the second attempt of a row is its second draw.


_ROW_AND_TURN = struct.Struct("<QQ")
_WORDS = struct.Struct("<8Q")
_SEED = struct.Struct("<Q")
_WORD = struct.Struct("<Q")

# Fields that a client adds to a row's body; two POSTs that differ in these alone are one row.
_CLIENTS_OWN = ("background", "store", "stream")


class Draw(NamedTuple):
    """Eight quantiles in [0, 1)."""

    refusal: float
    outcome: float
    queued: float
    duration: float
    tokens: float
    latency: float
    trait: float
    nonce: float


def draw(seed: int, row: int, turn: int) -> Draw:
    """The draws of the `turn`-th POST of `row`."""
    digest = blake2b(_ROW_AND_TURN.pack(row, turn), key=_SEED.pack(seed), digest_size=64).digest()
    return Draw._make([(word >> 11) * 2.0**-53 for word in _WORDS.unpack(digest)])


def quantile(seed: int, *facts: int) -> float:
    """One quantile in [0, 1) that follows from `seed` and `facts`."""
    digest = blake2b(b"".join(map(_WORD.pack, facts)), key=_SEED.pack(seed), digest_size=8).digest()
    return float(_WORD.unpack(digest)[0] >> 11) * 2.0**-53


def row_of(body: object) -> tuple[int, str | None]:
    """The number that identifies a row, and its custom_id if `metadata` in the body has one.

    Rows without a custom_id are identified by their body, whatever the order of its keys, without what a
    client adds (background, store, stream).
    """
    if isinstance(body, dict):
        metadata = body.get("metadata")
        if isinstance(metadata, dict) and isinstance(name := metadata.get("custom_id"), str) and name:
            return row_of_name(name), name
        body = {key: value for key, value in body.items() if key not in _CLIENTS_OWN}
    return _hashed(b"body", orjson.dumps(body, option=orjson.OPT_SORT_KEYS)), None


def row_of_name(custom_id: str) -> int:
    return _hashed(b"name", custom_id.encode("utf-8", "surrogatepass"))


def _hashed(kind: bytes, text: bytes) -> int:
    number: int = _WORD.unpack(blake2b(text, person=kind, digest_size=8).digest())[0]
    return number
