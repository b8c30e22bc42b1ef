"""What one poll costs in the core, and what a job in flight weighs, at a thousand jobs and at a million.

    python benchmarks/core.py [--quick]

One poll is a parsed answer -> verdict -> handle -> agenda -> the next poll's instruction, of a job that goes
on (720 bytes of JSON). Each size runs in a process of its own; times are seconds of one busy process. Sizes run in
turn, several rounds; the figures are medians. The weight of a job is resident memory: key, job id, agenda
entry and indexes included. Pauses of the garbage collector are measured twice: as a program that does
nothing about it sees them, and with `gc.freeze` as the command will use it.
"""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from results import record

from batchrun.core.engine.engine import Engine
from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import Row
from batchrun.core.journal.fold import JournaledRow
from batchrun.core.responses.http import Answer
from batchrun.core.responses.verdict import JobReport, read_poll
from batchrun.core.settings.settings import Settings

SIZES = (1_000, 100_000, 1_000_000)
HEADERS = {"content-type": "application/json", "x-request-id": "req_0123456789abcdef0123456789abcdef"}


def body(job_id: str) -> bytes:
    """An answer of 720 bytes for a job that goes on."""
    known = {
        "id": job_id,
        "object": "response",
        "created_at": 1_800_000_000,
        "status": "in_progress",
        "background": True,
    }
    known |= {"error": None, "incomplete_details": None, "model": "gpt-5-2025-08-07", "output": [], "usage": None}
    known |= {"tools": [], "store": True, "temperature": 1.0, "metadata": {}}
    pad = 720 - len(json.dumps(known | {"instructions": ""}))
    return json.dumps(known | {"instructions": "x" * pad}).encode()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Pauses:
    """The garbage collector's pauses, in seconds."""

    def __init__(self) -> None:
        self.worst = self.started = 0.0
        gc.callbacks.append(self)

    def __call__(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self.started = time.perf_counter()
        else:
            self.worst = max(self.worst, time.perf_counter() - self.started)


def measure(jobs: int, polls: int, *, freeze: bool) -> dict[str, float]:
    """Put `jobs` into an engine and poll them `polls` times, in this process."""
    settings = Settings(concurrency=2 * jobs, poll_rate=1e12, connections=1_000, poll_min=10.0, poll_max=30.0)
    # A cheap source of chance, so that the figure is the engine's and not the generator's.
    numbers = [i * 0.618033988749895 % 1.0 for i in range(1_000)]
    turn = iter(range(10**12))
    engine = Engine(settings, run_id="run", now=0.0, epoch=1.8e9, chance=lambda: numbers[next(turn) % 1_000])
    pauses = Pauses()
    gc.collect()
    pauses.worst = 0.0
    before = resident()

    def rows() -> Iterator[tuple[Row, JournaledRow]]:
        for i in range(jobs):
            if freeze and i % 20_000 == 0:
                gc.freeze()
            journaled = JournaledRow()
            journaled.job_id, journaled.submitted_at = f"resp_{i:048x}", 1.8e9 + i * 1e-3
            yield Row(f"row-{i:07}"), journaled

    taken_up = engine.handle(m.Recovered({}, jobs, 0, 0, 0), 0.0)
    left, more = rows(), True
    while more:  # in parts, as the runner gives them
        part = list(islice(left, 1_000))
        more = len(part) == 1_000
        taken_up += engine.handle(m.RowsTakenUp(part, more), 0.0)
    del part  # as the runner lets it go: it would count as the engine's
    engine.rows_in._known.clear()  # noqa: SLF001 - the keys that reading the input would have crossed off
    if freeze:
        gc.freeze()

    agenda = engine.times._timers  # noqa: SLF001 - to know the time of the next poll, and to time it alone
    now, spent, done = 0.0, 0.0, 0
    warm_up = polls // 10
    due = deque(instruction for instruction in taken_up if isinstance(instruction, m.Poll))
    clock = time.perf_counter  # process_time is a system call of tens of µs on some machines
    step = 250 / jobs * 20  # let some 250 polls fall due between two reads of the clock
    while done < polls + warm_up:
        if not due:
            now = max(now + step, agenda.next_due() or now)
            due.extend(i for i in engine.handle(m.TimerFired(), now) if isinstance(i, m.Poll))
        batch = [due.popleft() for _ in range(min(len(due), 500))]
        answers = [Answer(200, HEADERS, body(poll.job.job_id or "")) for poll in batch]
        begun = clock()
        for poll, answer in zip(batch, answers, strict=True):
            seen = read_poll(answer, 1.8e9, poll.job.job_id or "")
            assert isinstance(seen, JobReport)
            for instruction in engine.handle(m.PollAnswered(poll.job, poll.attempt, seen), now):
                if isinstance(instruction, m.Poll):
                    due.append(instruction)
        if done >= warm_up:
            spent += clock() - begun
        done += len(batch)
    weight = (resident() - before) / jobs

    begun = clock()
    turns = 200_000
    for _ in range(turns):
        job = agenda.take(now)
        if job is None:
            now = agenda.next_due() or now
            job = agenda.take(now)
        assert job is not None
        agenda.put(job, now + 10.0 + 30.0 * numbers[_ % 1_000])
    agenda_cost = (clock() - begun) / turns
    return {
        "poll": spent / (done - warm_up) * 1e6,
        "agenda": agenda_cost * 1e6,
        "bytes": weight,
        "pause": pauses.worst * 1e3,
    }


def in_a_process(jobs: int, polls: int, *, freeze: bool) -> dict[str, float]:
    arguments = ["--measure", str(jobs), str(polls), str(int(freeze))]
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    if "--measure" in sys.argv:
        jobs, polls, freeze = map(int, sys.argv[-3:])
        print(json.dumps(measure(jobs, polls, freeze=bool(freeze))))
        return
    quick = "--quick" in sys.argv
    sizes, rounds, polls = (SIZES[:2], 1, 20_000) if quick else (SIZES, 3, 300_000)
    found: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for size in sizes:
            found[size].append(in_a_process(size, polls, freeze=False))
    middle = {
        size: {name: statistics.median(run[name] for run in runs) for name in runs[0]} for size, runs in found.items()
    }
    for size, figures in middle.items():
        record(f"core: one poll at {size:,} jobs", figures["poll"], "µs")
        record(f"core: the agenda's part at {size:,} jobs", figures["agenda"], "µs")
        record(f"core: a job in flight at {size:,} jobs", figures["bytes"], "bytes")
        record(f"core: longest pause of the garbage collector at {size:,} jobs", figures["pause"], "ms")
        frozen = in_a_process(size, polls // 10, freeze=True)
        record(f"core: the same with gc.freeze at {size:,} jobs", frozen["pause"], "ms")
    least, most = sizes[0], sizes[-1]
    ratios = [b["poll"] / a["poll"] for a, b in zip(found[least], found[most], strict=True)]
    record(
        f"core: one poll at {most:,} jobs",
        statistics.median(ratios),
        "ratio",
        ratio_to=f"core: one poll at {least:,} jobs",
    )


if __name__ == "__main__":
    main()
