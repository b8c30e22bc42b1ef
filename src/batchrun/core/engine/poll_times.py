"""When each job is polled, and how many polls go at once: timers, pacing, rate and pauses of polls."""

from __future__ import annotations

from collections.abc import Iterable

from batchrun.core.jobs.job import Job, Timers, WaitsFor
from batchrun.core.jobs.jobs import Jobs
from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.limits.catch_up import Steady
from batchrun.core.limits.rate import Rate
from batchrun.core.limits.reach import LONGEST_TRY_GAP
from batchrun.core.pacing.backoff import Backoff
from batchrun.core.pacing.pacing import UNKNOWN_AGE, ClassPacing, Pacing
from batchrun.core.responses.retry_after import floor_with_jitter, full_jitter
from batchrun.core.responses.service_clock import ServiceClock
from batchrun.core.settings.settings import BACKOFF_MAX, LONGEST_GAP, read_lag

RESUMED_WITHIN = 1.0
"""Jobs of an earlier run are polled within so many seconds, spread evenly, as far as the rate allows."""
MOST_PLANNED_AGAIN = 100_000
"""More jobs are not planned again at once, as it would stop everything else for a while: they come when their time comes."""
END_OF_BATCH = 0.1
"""Without a row that waits, and with fewer than this share of the places in use, a batch is at its end."""


class PollTimes:
    """The jobs that wait for a poll.

    Their gaps are learned (core/pacing), or a plain backoff where the user asked for that.
    """

    def __init__(self, jobs: Jobs) -> None:
        settings = jobs.settings
        self._jobs = jobs
        self._timers = Timers(WaitsFor.POLL)
        self._rate = PollRate(settings.poll_rate)
        self._paused_until = float("-inf")
        self._tries = 0  # without a connection, before there was any
        self._backoff = Backoff(settings.poll_min, settings.poll_max) if settings.pacing == "backoff" else None
        self._after_cancel = Backoff(settings.poll_min, min(settings.poll_max, BACKOFF_MAX))
        self._pacing = Pacing(read_lag(settings.lag), settings.poll_min, settings.poll_max)
        self._learn_at = float("-inf")
        self._at_the_end = False
        self.lags = Lags()

    def learned_before(self, durations: Iterable[float]) -> None:
        """How long jobs of the batch took in earlier runs."""
        self._pacing.learned_before(durations)

    @property
    def pacing(self) -> Pacing:
        """What was learned of the durations of jobs."""
        return self._pacing

    # --- one job ---

    def first(self, job: Job, deadline: float) -> None:
        """Wait for the first poll of a job that was just submitted."""
        jobs = self._jobs
        if self._backoff is not None:
            gap = self._backoff.gap(job.polls, jobs.chance())
        else:
            gap = self._pace_of(job).first(jobs.chance(), jobs.chance(), queued=job.running_at is None)
        self._put(job, gap, 0.0, deadline)

    def runs(self, job: Job, before: float, floor: float, deadline: float) -> None:
        """Wait for the next poll of a job that was just seen to run, and before that at the age `before`."""
        if self._backoff is not None:
            gap = self._backoff.gap(job.polls, self._jobs.chance())
        else:
            pace = job.pace or self._pace_of(job)
            if job.running_at is None or pace.stages is not None:
                gap = pace.seen(before, job.seen_age, _begun(job), self._jobs.chance())
            else:
                gap = pace.running(before, job.seen_age, self._jobs.chance())
        self._put(job, gap, floor, deadline)

    def unseen(self, job: Job, floor: float, deadline: float) -> None:
        """Wait for the next poll of a job of which the last one showed nothing."""
        if floor > 0:
            job.asked_to_wait()
        self._put(job, self._gap(job), floor, deadline)

    def unconnected(self, job: Job) -> None:
        """There was no connection for a poll, and none before: all polls wait, and this job's is the first to go again."""
        jobs = self._jobs
        if jobs.now >= self._paused_until:
            self._tries += 1
            delay = full_jitter(self._tries, 0.5 + jobs.chance() / 2, cap=LONGEST_TRY_GAP)
            self._paused_until = jobs.now + delay
        self._timers.put(job, jobs.now)

    def ended(self, job: Job, before: float, clock: ServiceClock | None) -> None:
        """A job was seen to have ended, and to run at the age `before`: learn from it."""
        if self._backoff is not None:
            lag = None if before == UNKNOWN_AGE else (job.seen_age - before) / 2
        else:
            told = None if clock is None else clock.duration()
            lag = (job.pace or self._pace_of(job)).ended(before, job.seen_age, told, _begun(job))
        self.lags.add(job.polls_of_attempt, lag)

    def at(self, job: Job, when: float) -> None:
        """Poll the job at this time."""
        self._timers.put(job, when)

    def after_cancel(self, job: Job) -> float:
        """Seconds to the next poll of a job whose cancel was sent."""
        return self._after_cancel.gap(job.polls, self._jobs.chance())

    def resumed(self, jobs: Iterable[Job]) -> None:
        """Poll these jobs, which an earlier run submitted, soon."""
        now, chance, put = self._jobs.now, self._jobs.chance, self._timers.put
        for job in jobs:
            put(job, now + chance() * RESUMED_WITHIN)

    def _put(self, job: Job, gap: float, floor: float, deadline: float) -> None:
        """Wait `gap` seconds: `floor` seconds at least, until its `deadline` at most."""
        jobs = self._jobs
        if floor > gap:
            gap = min(floor_with_jitter(floor, jobs.chance()), LONGEST_GAP)
        at = jobs.now + gap
        self._timers.put(job, deadline if jobs.now < deadline < at else at)

    def _gap(self, job: Job) -> float:
        chance = self._jobs.chance()
        if self._backoff is not None:
            return self._backoff.gap(job.polls, chance)
        return (job.pace or self._pace_of(job)).gap(self._jobs.age(job), chance, _begun(job))

    def _pace_of(self, job: Job) -> ClassPacing:
        pace = self._pacing.of(job.about.resource)
        job.paced(pace)
        return pace

    # --- all of them ---

    def suspended(self) -> None:
        """The process was suspended: overdue polls do not go all at once, and what they show teaches nothing."""
        now, chance = self._jobs.now, self._jobs.chance
        for watched in self._jobs.watched.values():
            watched.not_seen_for_a_while()
        while (job := self._timers.take(now)) is not None:
            self._timers.put(job, now + chance() * self._gap(job))

    def take(self) -> Job | float:
        """The job whose poll goes now, or else when to come back."""
        now, timers, rate = self._jobs.now, self._timers, self._rate
        while True:
            due, ready_at, paused_until = timers.soonest(), rate.ready_at(), self._paused_until
            if due > now or ready_at > now or paused_until > now:
                return max(due, ready_at, paused_until)
            job = timers.take(now)
            if job is not None:
                rate.take(now)
                return job

    def took_another(self) -> None:
        """A poll goes that did not wait."""
        self._rate.take(self._jobs.now)

    def refused(self, delay: float | None) -> None:
        """A poll was answered with 429: all polls wait, and then go more slowly."""
        now = self._jobs.now
        if now >= self._paused_until:
            self._rate.cut(now)
        if delay is not None:
            self._paused_until = now + floor_with_jitter(delay, self._jobs.chance())

    def unanswered(self) -> None:
        """A poll was not answered."""
        self._rate.failed(self._jobs.now)

    def answered(self, *, outage: bool) -> None:
        """A poll was answered, for the first time since one was not: after an `outage` polls go on at their rate of before."""
        self._rate.answered(self._jobs.now, outage=outage)

    def learn(self) -> None:
        """Once a second: learn from the jobs that ended, and plan again where that changes what is known."""
        now = self._jobs.now
        if now < self._learn_at:
            return
        seconds, changed = self._pacing.refresh()
        self._learn_at = now + seconds
        self._rate.grow(now)
        if changed is not None:
            self._plan_again(changed)

    def rows_wait(self, *, waiting: bool, places: int) -> None:
        """Whether a row waits for its turn or will, and how many jobs there may be at a time."""
        at_the_end = not waiting and self._jobs.open_jobs < END_OF_BATCH * places
        if at_the_end == self._at_the_end:
            return
        self._at_the_end = at_the_end
        for pace in self._pacing.hurry(at_the_end=at_the_end):
            self._plan_again(pace)

    def _plan_again(self, pace: ClassPacing) -> None:
        """Give the waiting jobs of a class new times, by what is known now."""
        jobs = self._jobs
        waiting = self._timers.waiting()
        if self._backoff is not None or len(waiting) > MOST_PLANNED_AGAIN:
            return
        for job in waiting:
            if job.pace is not pace or job.phase is not Phase.WATCHING or job.seen_age == UNKNOWN_AGE:
                continue
            history, seen = job.history, job.last_seen
            if history is not None or (seen is not None and seen.poll_after):
                continue  # it is cancelled, or the service asked for a time
            seen_at = jobs.now - jobs.age(job) + job.seen_age
            at = max(seen_at + pace.gap(job.seen_age, jobs.chance(), _begun(job)), jobs.now)
            self._timers.put(job, at)


def _begun(job: Job) -> float | None:
    """The age at which the job was first seen in progress; None while it is queued.

    Not above 0 where nobody saw whether it was queued first: the response to its POST said so, or a run resumed it.
    """
    running_at, submitted_at = job.running_at, job.submitted_at
    if running_at is None:
        return None
    return running_at - submitted_at if submitted_at is not None else 0.0


class Lags:
    """How many polls jobs took, and how long after their end the last of them came, as is to be expected."""

    def __init__(self) -> None:
        self.jobs = self.polls = 0
        self._seconds, self._known = 0.0, 0

    @property
    def mean(self) -> float | None:
        """Seconds; None while nothing is known."""
        return self._seconds / self._known if self._known else None

    def add(self, polls: int, lag: float | None) -> None:
        """A job was seen to have ended, after so many polls."""
        self.jobs += 1
        self.polls += polls
        if lag is not None:
            self._seconds += lag
            self._known += 1


class PollRate:
    """At most so many polls a second, and fewer after a 429: four fifths of those that went, then 5% more every 5 s.

    After an outage about as many as before it, for a while, and then more in the same way.
    """

    def __init__(self, per_second: float) -> None:
        self._most = per_second
        self._rate = Rate(per_second)
        self._counted, self._counting_since = 0, float("-inf")
        self._measured = per_second  # polls a second, lately
        self._grown_at = float("inf")
        self._steady = Steady()

    @property
    def per_second(self) -> float:
        """Polls a second that are sent at most now."""
        return self._rate.per_second or self._most

    def ready_at(self) -> float:
        return self._rate.ready_at()

    def take(self, now: float) -> None:
        self._counted += 1
        self._rate.take(now)

    def cut(self, now: float) -> None:
        self._set(max(1.0, 0.8 * min(self._measured, self.per_second)))
        self._grown_at = now if self._grown_at == float("inf") else max(now, self._grown_at)

    def grow(self, now: float) -> None:
        """To be called about once a second."""
        if now - self._counting_since >= 1.0:
            lasted = now - self._counting_since
            self._measured = self._counted / lasted
            if lasted < float("inf"):
                self._steady.add(now, self._counted, lasted)
            self._counted, self._counting_since = 0, now
        if now - self._grown_at >= 5.0:
            self._grown_at = now
            self._set(min(self._most, 1.05 * self.per_second))

    def failed(self, now: float) -> None:
        """One was not answered."""
        self._steady.failed(now)

    def answered(self, now: float, *, outage: bool) -> None:
        """One was answered, after an `outage` or not."""
        found = self._steady.answered(outage=outage)
        if found is not None:
            rate, hold = found
            self._set(min(rate, self.per_second))
            self._grown_at = now + hold

    def _set(self, per_second: float) -> None:
        self._rate.change(per_second)
        if per_second >= self._most:
            self._grown_at = float("inf")
            self._steady.caught_up()
