"""What is true of the engine's books between any two events; tests ask after every few."""

from __future__ import annotations

from collections import Counter

from batchrun.core.engine.artifacts import Endings
from batchrun.core.engine.polls import Polls
from batchrun.core.jobs.jobs import Jobs
from batchrun.core.jobs.lifecycle import OPEN_PHASES, Phase
from batchrun.core.limits.gate import Gate


def check(desk: Jobs, endings: Endings, gate: Gate, watch: Polls) -> None:
    """Raise AssertionError where the books do not agree."""
    jobs = [*desk.unsubmitted.values(), *desk.watched.values()]
    counts = Counter(job.phase for job in jobs)
    for phase in Phase:
        if phase is not Phase.FINISHED:
            assert desk.in_phase[phase] == counts[phase], (
                f"{phase}: {desk.in_phase[phase]} counted, {counts[phase]} there"
            )
    assert counts[Phase.FINISHED] == 0, "a finished job is still in memory"
    assert len({job.key for job in jobs}) == len(jobs), "a row is in flight twice"
    assert desk.open_jobs == sum(counts[phase] for phase in OPEN_PHASES)
    over = (Phase.ENDING, Phase.FINISHED)
    assert desk.latched == sum(job.reason is not None and job.phase not in over for job in jobs)
    assert all(job.job_id == job_id for job_id, job in desk.watched.items())
    assert gate.in_flight == counts[Phase.INTENDING] + counts[Phase.SUBMITTING]
    assert gate.in_flight <= gate.exposed <= desk.settings.submits, "more intents open than --submits allows"
    assert watch.in_flight == counts[Phase.POLLING] <= desk.settings.connections
    waiting = {id(job) for job in watch.waiting()}
    assert waiting == {id(job) for job in jobs if job.phase in (Phase.WATCHING, Phase.SETTLING)}, (
        "a job waits for nothing"
    )
    assert desk.unsynced_records >= 0
    assert counts[Phase.STORING] == endings.waiting()
