"""Times, sizes and numbers as people write them, and back.

``read_…`` read what a person typed or raise ValueError with what was expected; ``spelled_…`` write a value so
that reading it gives the same value again; ``duration`` and ``size`` are for reading only, and round.
"""

from __future__ import annotations

import math
import re

from batchrun.core.text.printable import visible

_TIME_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s?(ms|s|m|min|h|d)?", re.IGNORECASE)
_TIMES = re.compile(rf"(?:{_TIME.pattern}\s?)+", re.IGNORECASE)
_LONGEST = 1e10  # seconds, some three hundred years: what a clock can still add

_SIZE_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s?([kmgt]?)(?:i?b)?", re.IGNORECASE)
_LARGEST = 1 << 60

_NUMBER = re.compile(r"[0-9][0-9_]*(?:\.[0-9]+)?")
_COUNT = re.compile(r"[0-9][0-9_]*")


def read_seconds(text: str) -> float:
    """``90``, ``1.5s``, ``250ms``, ``5m``, ``1h30m`` or ``2d`` in seconds. A bare number is seconds."""
    whole = text.strip()
    if _TIMES.fullmatch(whole):
        parts = [(found[1], (found[2] or "").lower()) for found in _TIME.finditer(whole)]
        if len(parts) == 1 or all(unit for _, unit in parts):
            seconds = math.fsum(float(number) * _TIME_UNITS[unit or "s"] for number, unit in parts)
            if seconds <= _LONGEST:
                return seconds
    raise ValueError(f"expected a time such as 90s, 5m or 24h, got {_shown(text)}")


def read_bytes(text: str) -> int:
    """``1000``, ``500k`` or ``64MiB`` in bytes. All units are powers of 1024, as of memory: 64M is 64MB is 64MiB."""
    found = _SIZE.fullmatch(text.strip())
    if found is not None:
        size = float(found[1]) * _SIZE_UNITS[found[2].lower()]
        if size <= _LARGEST and size == int(size):
            return int(size)
    raise ValueError(f"expected a size such as 500k or 64MiB, got {_shown(text)}")


def read_count(text: str) -> int:
    """A whole number, 0 or more; ``20_000`` too."""
    if _COUNT.fullmatch(text.strip()) and len(text) < 20:
        return int(text.strip().replace("_", ""))
    raise ValueError(f"expected a whole number such as 500, got {_shown(text)}")


def read_number(text: str) -> float:
    """A number, 0 or more; ``2_000_000`` too."""
    if _NUMBER.fullmatch(text.strip()) and len(text) < 20:
        return float(text.strip().replace("_", ""))
    raise ValueError(f"expected a number such as 600 or 0.5, got {_shown(text)}")


def spelled_seconds(seconds: float) -> str:
    """A time as it can be typed: ``24h``, ``5m``, ``30s``, ``0.25s``."""
    for unit in ("h", "m"):
        if seconds >= _TIME_UNITS[unit] and seconds % _TIME_UNITS[unit] == 0:
            return f"{seconds / _TIME_UNITS[unit]:.0f}{unit}"
    return f"{seconds!r}s".replace(".0s", "s")


def spelled_bytes(count: int) -> str:
    """A size as it can be typed: ``64MiB``, ``1000``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        scale = _SIZE_UNITS[unit[0].lower()]
        if count >= scale and count % scale == 0:
            return f"{count // scale}{unit}"
    return str(count)


def duration(seconds: float) -> str:
    """A time to read, in its two largest units: ``0.4 s``, ``48 s``, ``12 min 5 s``, ``1 h 2 min``, ``3 d 4 h``."""
    if seconds < 9.95 and round(seconds, 1) != round(seconds):
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole, 60, "min", 1, "s")
    if whole < 48 * 3600:
        return _two(whole, 3600, "h", 60, "min")
    return _two(whole, 86_400, "d", 3600, "h")


def _two(whole: int, large: int, large_name: str, small: int, small_name: str) -> str:
    count, rest = divmod(whole, large)
    return f"{count:,} {large_name}" + (f" {rest // small} {small_name}" if rest // small else "")


def size(count: int) -> str:
    """A size to read: ``512 B``, ``1.5 KiB``, ``64 MiB``."""
    if count < 1024:
        return f"{count} B"
    amount = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1023.95:
            return f"{amount:.1f} {unit}".replace(".0 ", " ")
    return f"{amount / 1024:,.1f} TiB".replace(".0 ", " ")


def many(count: int, noun: str, nouns: str | None = None) -> str:
    """``1 row``, ``1,204 rows``."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def _shown(text: str) -> str:
    return repr(visible(text, 60))
