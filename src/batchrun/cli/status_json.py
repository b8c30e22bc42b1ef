"""The status of a batch, for programs.

The JSON of ``batchrun status OUT --json``, every key always present:

    version       1
    at            when the files were read, ISO 8601 in UTC, as all times here
    run           {state, process, since, until, reason} of the run that is on or was last; state is starting, running,
                  complete, partial (it did what it was asked to, and rows are left), halted, detached, stopped or lost
                  (ended unexpectedly: then `until` is when it last wrote)
    rows          {total, done, open}; total and open are null where unknown
    states        {state: rows} of the whole output
    stages        {waiting, retrying, submitting, watching, cancelling}: rows without a record; waiting is null as above
    failures      [{state, code, rows, advice, sample}] of the whole output, most rows first; sample is {key, message} of
                  one of these rows, or null
    with_warnings rows that succeeded and have warnings
    jobs          jobs that are running on the service, and are billed
    oldest        null, or {key, job_id, submitted_at, age_s} of the job that is in flight for longest
    lately        null where no run is on, or {seconds, submits, records, refused, unconfirmed}: what happened in the last
                  seconds, 300 at most; refused counts submits that were withdrawn before they were sent, too
    per_minute    null as above, or {submits, records}
    left_s        null where unknown, or seconds to the last record, about
    left_range_s  null where too few jobs have ended, or [at least, at most] of the same, 9 times in 10
    polling       {polls_per_job, mean_lag_s} of the jobs that the run submitted itself, null where unknown; mean_lag_s is
                  the time from a job's end to its record, of the last 600, by the service's created_at and completed_at
    unusual       null, or {jobs, oldest, age_s}: jobs that run unusually long, 500 at most, and the oldest one's key
    stalled       null, or {jobs, oldest, age_s}: jobs that have not ended for 15 minutes at least, and for twice as long
                  as any that the run has a record of, and the oldest one's key and age
    failing       null, or {failed, jobs, since, code}: of the last jobs that ended, 50 at most, at least 25 failed by the
                  service's own fault, the first of them since then; rows like them wait, one at a time is sent
    tokens        {input, output, total}, null while no record has a number
    new_attempts  jobs that ended in a way that allowed a retry
    halted        null, or {reason, message, advice} of the last run
    notes         [what else a person should know]
    files         {output, journal}
    next          [{command, what}]
"""

from __future__ import annotations

from typing import Any

from batchrun.cli.run_result import failures
from batchrun.cli.status_page import StatusPaths, halt_of, next_commands, notes_of, tokens_of
from batchrun.cli.summary import polling, stalled, unusual
from batchrun.core.status.status import BatchStage, BatchStatus
from batchrun.core.taxonomy.rules import State
from batchrun.core.text.readable import utc

STATUS_VERSION = 1


def facts(status: BatchStatus, paths: StatusPaths, output: str | None, journal: str) -> dict[str, Any]:
    """The status for programs, in the shape above."""
    run, recent, oldest, halt = status.run, status.recent, status.oldest, halt_of(status.run)
    return {
        "version": STATUS_VERSION,
        "at": utc(status.at),
        "run": {
            "state": run.state.value,
            "process": run.process,
            "since": _utc(run.since),
            "until": _utc(run.until),
            "reason": run.reason,
        },
        "rows": {"total": status.total, "done": status.done, "open": status.open_rows},
        "states": {state.value: rows for state in State if (rows := status.states.get(state, 0))},
        "stages": {stage.value: status.stages.get(stage) for stage in BatchStage},
        "failures": failures(status.codes, status.samples),
        "with_warnings": status.with_warnings,
        "jobs": status.jobs,
        "oldest": None
        if oldest is None
        else {
            "key": oldest.key,
            "job_id": oldest.job_id,
            "submitted_at": utc(oldest.submitted_at),
            "age_s": round(max(0.0, status.at - oldest.submitted_at), 3),
        },
        "lately": None
        if recent is None
        else {
            "seconds": round(recent.seconds, 3),
            "submits": recent.submits,
            "records": recent.records,
            "refused": recent.refused,
            "unconfirmed": recent.unconfirmed,
        },
        "per_minute": None
        if recent is None
        else {"submits": round(recent.submits_a_minute, 3), "records": round(recent.records_a_minute, 3)},
        "left_s": None if status.left is None else round(status.left, 1),
        "left_range_s": None if status.forecast is None else [round(seconds, 1) for seconds in status.forecast],
        "polling": polling(status.polls_per_job, status.mean_lag),
        "unusual": unusual(status.unusual),
        "stalled": stalled(status.stalled),
        "failing": None
        if status.failing is None
        else {
            "failed": status.failing.failed,
            "jobs": status.failing.jobs,
            "since": utc(status.failing.since),
            "code": status.failing.code,
        },
        "tokens": tokens_of(status),
        "new_attempts": status.new_attempts,
        "halted": None if halt is None else dict(zip(("reason", "message", "advice"), halt, strict=True)),
        "notes": list(notes_of(status)),
        "files": {"output": output, "journal": journal},
        "next": [{"command": typed, "what": what} for typed, what in next_commands(status, paths)],
    }


def _utc(at: float | None) -> str | None:
    return None if at is None else utc(at)
