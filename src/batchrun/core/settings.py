"""The one set of settings that command, environment and API share."""

from __future__ import annotations

from dataclasses import dataclass

from batchrun.core.pacing import LONGEST_GAP


class SettingsError(ValueError):
    """A setting that makes no sense, named as the command names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a batch is run. Times are seconds, rates are per minute or as named."""

    concurrency: int = 500
    submits: int = 32
    rpm: float | None = None
    tpm: float | None = None
    poll_min: float = 1.0
    poll_max: float = 30.0
    poll_rate: float = 200.0
    connections: int = 1_000
    retries: int = 4
    retry_budget: int | None = None  # None: 100 + 25% of the accepted jobs
    deadline: float = 86_400.0
    max_wait: float | None = None
    cancel_settle: float = 10.0
    cancel_patience: float = 300.0
    drain: float = 30.0
    max_unsynced: int = 256 * 2**20  # bytes of records not yet on the disk
    keep_going: bool = False
    write_off: bool = False
    resubmit_unconfirmed: bool = False

    def __post_init__(self) -> None:
        for name in ("concurrency", "submits", "poll_min", "poll_max", "poll_rate", "connections", "deadline"):
            if not getattr(self, name) > 0:
                raise _error(name, "a number above 0", getattr(self, name))
        for name in ("rpm", "tpm", "max_wait"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise _error(name, "a number above 0", value)
        for name in ("retries", "retry_budget", "drain", "cancel_settle", "cancel_patience"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise _error(name, "0 or more", value)
        if self.poll_max > LONGEST_GAP:
            raise _error(
                "poll_max",
                f"at most {LONGEST_GAP:.0f} s, as some services keep results for ten minutes only",
                self.poll_max,
            )
        if self.poll_min > self.poll_max:
            raise _error("poll_min", f"at most --poll-max ({self.poll_max:g})", self.poll_min)


def _error(name: str, expected: str, came: object) -> SettingsError:
    flag = "--" + name.replace("_", "-")
    return SettingsError(f"{flag}: expected {expected}, got {came!r}")
