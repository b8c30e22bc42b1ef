"""Whether the service answers: a service that was never reached, and an outage.

- **Never reached**: no connection was made in this run, by no submit and no poll. It is tried again for HALT_AFTER seconds
  (a network that comes up, a service that starts), with gaps of LONGEST_TRY_GAP at most; then the run halts, since waiting
  changes no wrong name, port or certificate. Nothing was sent: rows and jobs stay open.
- **Outage**: a service that was reached and does not answer any more. Submits and polls are tried again as ever. It is
  told after TOLD_AFTER seconds, every TOLD_EVERY seconds, and when it is over.

A response of 500 and above is no answer: it may come from a proxy whose service is gone. Times are those of the engine.
"""

from __future__ import annotations

from batchrun.core.responses.http import NOTHING_SENT
from batchrun.core.text.readable import duration

HALT_AFTER = 90.0
LONGEST_TRY_GAP = 15.0
TOLD_AFTER, TOLD_EVERY = 10.0, 30.0
LEAST_FAILURES = 2
"""One failure alone is no outage, however long nothing else was asked."""
IN_FLIGHT = 5.0
"""For so long, in seconds, what was in flight when a service ceased to respond may still be answered."""
OUTAGE = 10.0
"""Seconds without an answer after which its end is followed by a time of catching up."""


class Silence:
    """Requests of one kind, submits or polls: since when none was answered, and why the last one was not."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.failures = 0
        self.why = ""
        self.answered_at = float("-inf")

    def failed(self, now: float, why: str) -> None:
        if self.since is None:
            self.since = now
        self.failures += 1
        self.why = why

    def answered(self, now: float) -> float | None:
        """One was answered; returns since when none was, where that was an outage."""
        since, failures = self.since, self.failures
        self.since, self.failures, self.answered_at = None, 0, now
        if since is None or failures < LEAST_FAILURES or now - since < OUTAGE:
            return None
        return since

    def forget(self) -> None:
        """Nothing of the kind is left to be asked."""
        self.since, self.failures = None, 0

    def is_told(self, now: float) -> bool:
        """Whether it has lasted for so long that a person is told."""
        return self.since is not None and self.failures >= LEAST_FAILURES and now - self.since >= TOLD_AFTER


class Reach:
    """What is known of the connection to the service, in this run."""

    def __init__(self) -> None:
        self.connected = False  # a connection was made
        self.submits, self.polls = Silence(), Silence()
        self._tried = 0  # without a connection
        self._tried_since = 0.0
        self._told_since: float | None = None  # the outage that was told
        self._tell_at = float("inf")

    def answered(self, kind: Silence, now: float) -> float | None:
        """A request of the kind was answered; returns since when none was, where that was an outage."""
        self._is_connected()
        return kind.answered(now)

    def failed(self, kind: Silence, now: float, why: str, *, unconnected: bool) -> None:
        """A request of the kind was not answered; `unconnected` where there was no connection to send it over."""
        kind.failed(now, why.removesuffix(NOTHING_SENT))
        if not unconnected:
            self._is_connected()
        if self.connected:
            if self._told_since is None and kind.since is not None:
                self._tell_at = min(self._tell_at, max(now, kind.since + TOLD_AFTER))
            return
        if not self._tried:
            self._tried_since = self._tell_at = now
        self._tried += 1

    def _is_connected(self) -> None:
        if not self.connected:
            self.connected, self._tell_at = True, float("inf")
            if self._tried:
                self._told_since = self._tried_since

    def idle(self, kind: Silence) -> None:
        """Nothing of the kind is left to be asked: what failed last lasts no longer."""
        if kind.since is None or not self.connected:
            return
        kind.forget()
        if self._longest() is None:
            self._told_since, self._tell_at = None, float("inf")

    def suspended(self, now: float) -> None:
        """The process was suspended: what was tried before says nothing of the network now."""
        if self._tried and not self.connected:
            self._tried_since = now

    def unreachable(self, now: float) -> str | None:
        """Why the run halts; None where a connection was made, or may yet be."""
        if self.connected or self._tried < LEAST_FAILURES or now - self._tried_since < HALT_AFTER:
            return None
        return f"{self.why}, tried {self._tried:,} times in {duration(now - self._tried_since)}"

    @property
    def is_silent(self) -> bool:
        """Whether the last submit, or the last poll, was not answered."""
        return self._longest() is not None

    @property
    def why(self) -> str | None:
        """Why the last request that was not answered was not; None where all were."""
        silent = self._longest()
        return None if silent is None else silent.why

    def silent_for(self, now: float) -> float | None:
        """For how long the service has not answered, in seconds; None where it does, or where that is not worth a word."""
        silent = self._longest()
        if silent is None or silent.since is None or (self.connected and not silent.is_told(now)):
            return None
        return now - silent.since

    def next_time(self) -> float:
        """When to look again without an event."""
        if self.connected or self._tried < LEAST_FAILURES:
            return self._tell_at
        return min(self._tell_at, self._tried_since + HALT_AFTER)

    def news(self, now: float, polled_at: float | None) -> str | None:
        """What a person is to be told now; `polled_at` is when a poll was answered last."""
        if not self.connected:
            return self._news_of_no_connection(now)
        silent = self._longest()
        if silent is None or silent.since is None:
            told_since, self._told_since, self._tell_at = self._told_since, None, float("inf")
            return None if told_since is None else f"the service responds again, after {duration(now - told_since)}"
        if now < self._tell_at:
            return None
        if not silent.is_told(now):
            due = silent.since + TOLD_AFTER
            self._tell_at = due if due > now else float("inf")  # until the next failure
            return None
        self._tell_at = now + TOLD_EVERY
        self._told_since = silent.since
        who = "the service has not responded"
        other_at = polled_at if silent is self.submits else self.submits.answered_at
        if other_at is not None and other_at > silent.since + IN_FLIGHT:
            who = f"no {'submit' if silent is self.submits else 'poll'} got a response"
        return f"{who} for {duration(now - silent.since)}: {silent.why}; trying again"

    def _news_of_no_connection(self, now: float) -> str | None:
        if not self._tried or now < self._tell_at:
            return None
        self._tell_at = now + TOLD_EVERY
        left = self._tried_since + HALT_AFTER - now
        return f"{self.why}; trying again for {duration(left)}" if left >= 1 else None

    def _longest(self) -> Silence | None:
        """The kind that was not answered for longest."""
        silent = [one for one in (self.submits, self.polls) if one.since is not None]
        return min(silent, key=lambda one: one.since or 0.0, default=None)
