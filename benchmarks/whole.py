"""The whole runner in a process of its own: input, journal, limits, agenda, wire, verdicts, records, progress.

    python benchmarks/whole.py '{"url": …, "input": …, "output": …, "settings": {…}}'

`measured(…)` starts it and returns what it tells. With `seconds` it waits until `jobs` are watched and the input is
read, measures
for so long what polls cost, and leaves (with `hold` it goes on and is killed with SIGKILL); else it runs to the
end. Nothing of the runner is replaced: where `lateness` is asked for, the agenda and the builder of requests are
listened to. With `collector` the garbage collector is kept away as the command does.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
if __name__ == "__main__":
    sys.path[:1] = [str(ROOT), str(ROOT / "src")]

from batchrun.cli.run import Collector  # noqa: E402 - runs from a checkout as well
from batchrun.core.jobs.job import Job, Timers  # noqa: E402
from batchrun.core.jobs.messages import StopMode  # noqa: E402
from batchrun.core.status.snapshot import Snapshot  # noqa: E402
from batchrun.edge.progress import ProgressBar  # noqa: E402
from batchrun.runner.loop.runner import clock  # noqa: E402
from batchrun.runner.session import Opening, Task, run_session  # noqa: E402
from batchrun.services.service import Service  # noqa: E402
from benchmarks.services import CLIENT_CORE, pinned, resident  # noqa: E402

KEY = "sk-benchmark-0123456789abcdef"
WARM = float(
    os.environ.get("BENCHMARK_WARM_UP", "0.75")
)  # seconds between the last submit and the first poll that counts
EVERY = 16  # one job of so many is listened to


def measured(**options: Any) -> dict[str, Any]:
    """What one run in a process of its own tells of itself."""
    command = [*pinned(CLIENT_CORE), sys.executable, __file__, json.dumps(options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        result = process.stdout.readline()
        if options.get("hold"):
            process.kill()
    if not result:
        raise RuntimeError(f"the run ended with {process.returncode}: {options}")
    return dict(json.loads(result))


class Terminal(io.StringIO):
    """Where the bar is drawn."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError

    def write(self, text: str) -> int:
        self.seek(0)
        self.truncate()
        return super().write(text)


class Late:
    """How long after it was due a poll is sent: of one job in EVERY, in seconds."""

    def __init__(self) -> None:
        self.found = array("d")
        self._due: dict[str, float] = {}
        late, take, poll = self, Timers.take, Service.poll

        def taken(agenda: Timers, now: float) -> Job | None:
            before = agenda.soonest()
            job = take(agenda, now)
            if job is not None and job.job_id is not None and hash(job.job_id) % EVERY == 0:
                late._due[job.job_id] = min(before, agenda.soonest(), now)
            return job

        def built(service: Service, job_id: str) -> Any:
            due = late._due.pop(job_id, None)
            if due is not None:
                late.found.append(clock() - due)
            return poll(service, job_id)

        Timers.take, Service.poll = taken, built  # type: ignore[method-assign]

    def facts(self) -> dict[str, float]:
        found = sorted(self.found)
        return {f"late_p{at}": found[len(found) * at // 100] for at in (50, 99)} if found else {}


class Pulse:
    """The longest time for which the loop did not come round, and the longest pause of the collector."""

    EVERY = 0.005

    def __init__(self) -> None:
        self.stall = self.pause = 0.0
        self._begun = 0.0
        gc.callbacks.append(self._collected)

    def begin(self) -> None:
        self.stall = self.pause = 0.0
        self._beat(None)

    def _beat(self, before: float | None) -> None:
        now = time.perf_counter()
        if before is not None:
            self.stall = max(self.stall, now - before - self.EVERY)
        asyncio.get_running_loop().call_later(self.EVERY, self._beat, now)

    def _collected(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._begun = time.perf_counter()
        else:
            self.pause = max(self.pause, time.perf_counter() - self._begun)


class Observer:
    """Watches one run, with the progress on, and ends it when enough was seen."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.facts: dict[str, Any] = {"begun": time.time(), "resident_before": resident()}
        self.lags = array("d")  # from the end of a job on the service to its record, in seconds
        self._collector = Collector().__enter__() if options.get("collector") else None
        self.late = Late() if options.get("lateness") else None
        self.pulse = Pulse()
        self._progress: ProgressBar | None = None
        self._opening: Opening | None = None
        self._since: tuple[float, float, int] | None = None
        self._ready: float | None = None

    def opened(self, opening: Opening) -> None:
        self._opening = opening
        self._progress = ProgressBar(opening.rows, stream=Terminal())
        self.facts["opened_after"] = time.time() - self.facts["begun"]
        self.opened_at = time.perf_counter()
        if self._collector is not None:
            self._collector.freeze()
        self.pulse.begin()

    def progressed(self, snapshot: Snapshot) -> None:
        assert self._progress is not None
        assert self._opening is not None
        self._progress.show(snapshot)
        if self._collector is not None:
            self._collector.freeze_if_grown(snapshot.waiting + snapshot.in_flight)
        now, seconds = time.perf_counter(), self.options.get("seconds")
        if seconds is None:
            return
        if self._since is None:
            if snapshot.watched >= self.options["jobs"] and self._ready is None:
                self.facts.setdefault("all_in_flight_after", time.time() - self.facts["begun"])
                if self._opening.runner._engine.rows_in.ended:  # noqa: SLF001
                    self._ready = now
            if self._ready is not None and now - self._ready >= WARM:
                self._since = (now, time.process_time(), snapshot.polls)
                self._sys = os.times().system
                if self.late is not None:
                    del self.late.found[:]
                self.pulse.stall = self.pulse.pause = 0.0
        elif now - self._since[0] >= seconds:
            begun, cpu, polls = self._since
            looks = snapshot.polls - polls
            self.facts |= {
                "polls_per_s": looks / (now - begun),
                "cpu_per_poll": (time.process_time() - cpu) / max(looks, 1),
                "cpu_share": (time.process_time() - cpu) / (now - begun),
                "sys_share": (os.times().system - self._sys) / (now - begun),
                "stall": self.pulse.stall,
                "pause": self.pulse.pause,
                "resident": resident(),
                "watched": snapshot.watched,
                **(self.late.facts() if self.late is not None else {}),
            }
            self.options["seconds"] = None
            if self.options.get("hold"):
                print(json.dumps(self.facts), flush=True)
            else:
                self._opening.stop(StopMode.NOW, "measured")

    def halted(self, reason: str, message: str) -> None:
        self.facts["halted"] = f"{reason}: {message}"

    def saved(self, records: int) -> None:
        pass

    def recorded(self, line: bytes) -> None:
        if self.options.get("lags"):
            at = line.index(b'"job_id":"resp_') + 15
            self.lags.append(time.time() - int(line[at : at + 12], 16) / 1e3)

    def noted(self, text: str) -> None:
        print(text, file=sys.stderr)


async def _run(options: dict[str, Any]) -> dict[str, Any]:
    observer = Observer(options)
    given = {"service": "compatible", "base_url": options["url"], **options.get("settings", {})}
    cpu = time.process_time()
    task = Task(output=options["output"], input=options.get("input"))
    result = await run_session(task, given, {"OPENAI_API_KEY": KEY}, observer, observer.opened)
    snapshot = result.snapshot
    return observer.facts | {
        "took": time.perf_counter() - observer.opened_at,
        "lag": sum(observer.lags) / len(observer.lags) if observer.lags else None,
        "cpu": time.process_time() - cpu,
        "polls": snapshot.polls,
        "done": snapshot.done,
        "outcome": result.outcome.value,
    }


@contextmanager
def _profiled(path: str | None) -> Iterator[None]:
    if path is None:
        yield
        return
    import cProfile

    profile = cProfile.Profile()
    profile.enable()
    try:
        yield
    finally:
        profile.disable()
        profile.dump_stats(path)


def main(arguments: list[str]) -> int:
    options = json.loads(arguments[0])
    factory = None
    if options.get("loop", "uvloop") == "uvloop":
        with suppress(ImportError):
            from uvloop import new_event_loop as factory
    with _profiled(options.get("profile")), asyncio.Runner(loop_factory=factory) as runner:
        facts = runner.run(_run(options))
    print(json.dumps(facts), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
