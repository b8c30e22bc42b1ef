"""What is true between any two events; tests ask for it after every few."""

from __future__ import annotations

from collections import Counter

from batchrun.core.engine.engine import Engine
from batchrun.core.jobs.job import Job, Timers
from batchrun.core.jobs.lifecycle import OPEN_PHASES, Phase


def check_invariants(engine: Engine) -> None:
    """Raise AssertionError where counts and jobs do not agree; costs a walk over all jobs."""
    jobs, gate, polls = engine.jobs, engine.gate, engine.polls
    all_jobs = list(jobs.all())
    actual = Counter(job.phase for job in all_jobs)
    for phase in Phase:
        if phase is not Phase.FINISHED:
            assert jobs.in_phase[phase] == actual[phase], (
                f"{phase}: {jobs.in_phase[phase]} counted, {actual[phase]} in memory"
            )
    assert actual[Phase.FINISHED] == 0, "a finished job is still in memory"
    assert len({job.key for job in all_jobs}) == len(all_jobs), "a row is in flight twice"
    assert jobs.open_jobs == sum(actual[phase] for phase in OPEN_PHASES)
    over = (Phase.ENDING, Phase.FINISHED)
    assert jobs.to_end == sum(job.cancel_reason is not None and job.phase not in over for job in all_jobs)
    assert all(job.job_id == job_id for job_id, job in jobs.watched.items())
    assert all(job.job_id == job_id for job_id, others in jobs.sharing.items() for job in others)
    assert jobs.sharing.keys() <= jobs.watched.keys()
    assert jobs.shared == sum(map(len, jobs.sharing.values()))
    assert [] not in jobs.sharing.values()
    assert jobs._posted.keys() == {job.key for job in all_jobs if job.phase is Phase.SUBMITTING}
    assert gate.in_flight == actual[Phase.INTENDING] + actual[Phase.SUBMITTING]
    assert gate.in_flight <= gate.exposed <= jobs.settings.submits, "more intents open than --submits allows"
    assert polls.in_flight == actual[Phase.POLLING] <= jobs.settings.connections
    waiting = {id(job) for job in waiting_in(engine.times._timers)}
    assert waiting == {id(job) for job in all_jobs if job.phase in (Phase.WATCHING, Phase.SETTLING)}, (
        "a job waits for nothing"
    )
    assert jobs.unsynced_records >= 0
    assert actual[Phase.STORING] == len(engine.endings._endings)


def waiting_in(timers: Timers) -> list[Job]:
    """All jobs that wait in `timers`, each once."""
    found = {id(job): job for tick, bucket in timers._buckets.items() for job in bucket if job.due == tick}
    return list(found.values())
