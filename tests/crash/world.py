"""The real core on a simulated disk and service, in virtual time, and the ways in which it can all be cut off.

A `Process` runs one engine from its start to its end or to its crash. What a crash leaves is an `Image` of
the two files. `kill` loses what the process had in memory; `power` also loses what was not synced: all of
it, its end, or any page of it.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from zlib import crc32

import orjson

from batchrun.core import messages as m
from batchrun.core.engine import Engine
from batchrun.core.job import CancelReason, Job, Row
from batchrun.core.ledger import Fold, Header, fold, mark
from batchrun.core.lifecycle import Phase
from batchrun.core.recovery import Recovery, recover
from batchrun.core.settings import Settings
from batchrun.core.verdict import Accepted, Ambiguous, Seen, read_cancel, read_poll, read_submit
from tests.crash.service import Service, chance

PAGE = 64  # small, so that groups span pages
SETTINGS = Settings(
    concurrency=8, submits=4, poll_min=0.2, poll_max=1.5, poll_rate=500, cancel_settle=1.0, cancel_patience=6.0, drain=5.0
)  # fmt: skip
HEADER = Header(1, "run", "sim", "sim://", "", "", {}, "rows", 0.0).to_line()


@dataclass
class File:
    """What the disk holds for certain, and what the kernel was given since."""

    durable: bytes = b""
    cached: bytes = b""

    def after(self, way: str, rng: random.Random) -> bytes:
        """What is found after a crash."""
        cached = self.cached
        if way == "power" and cached:
            kind = rng.randrange(4)
            if kind == 0:
                cached = b""
            elif kind == 1:
                cached = cached[: rng.randrange(len(cached) + 1)]
            else:  # any page may be missing; the file has its new length all the same
                pages = [cached[i : i + PAGE] for i in range(0, len(cached), PAGE)]
                cached = b"".join(bytes(len(page)) if rng.random() < 0.5 else page for page in pages)
        elif way == "kill" and cached:
            cached = cached[: rng.choice((len(cached), rng.randrange(len(cached) + 1)))]
        return self.durable + cached


class Tape:
    """Group commit as the edge does it: what gathers while one sync runs shares the next."""

    def __init__(self, kind: m.Tape, file: File) -> None:
        self.kind = kind
        self.file = file
        self.lines: list[bytes] = []
        self.eager = False
        self.given = self.in_group = 0
        self.syncing = False

    def give(self, line: bytes, *, lazy: bool) -> None:
        self.lines.append(line)
        self.given += 1
        self.eager |= not lazy

    def begin(self) -> bool:
        """Hand the gathered lines to the kernel; whether there were any worth a sync."""
        if self.syncing or not self.eager:
            return False
        head = mark(len(self.file.durable)) if self.kind is m.Tape.JOURNAL else b""
        self.file.cached = head + b"".join(self.lines)
        self.lines, self.eager, self.syncing, self.in_group = [], False, True, self.given
        return True

    def complete(self) -> m.Synced:
        self.file.durable += self.file.cached
        self.file.cached, self.syncing = b"", False
        return m.Synced(self.kind, self.in_group)


@dataclass
class Truth:
    """What must hold in the end, whatever is cut off: collected while processes run."""

    done: set[str] = field(default_factory=set)  # rows that were reported done
    cancelled: set[str] = field(default_factory=set)  # rows whose cancel was acknowledged
    ambiguous: set[str] = field(default_factory=set)  # rows whose answer the service lost
    intended: set[str] = field(default_factory=set)
    crashes: int = 0
    output_was_cut: bool = False

    def copy(self) -> "Truth":
        return Truth(
            set(self.done),
            set(self.cancelled),
            set(self.ambiguous),
            set(self.intended),
            self.crashes,
            self.output_was_cut,
        )


class Violation(AssertionError):
    pass


class Process:
    """One run of the engine over the files, from `start` to Finish, or for as long as it is driven."""

    engine_class: type[Engine] = Engine
    settings = SETTINGS
    syncs_for_real = True

    def __init__(
        self, seed: int, rows: list[Row], files: dict[m.Tape, File], service: Service, truth: Truth, now: float
    ) -> None:
        self.seed, self.rows, self.files, self.service, self.truth, self.now = seed, rows, files, service, truth, now
        self.rng = random.Random(crc32(repr((seed, now)).encode()))
        self.tapes = {kind: Tape(kind, file) for kind, file in files.items()}
        self.queue: list[tuple[float, int, Callable[[], m.Event | None]]] = []
        self.posts: list[tuple[float, str]] = []  # on their way: when they arrive, and whose they are
        self.count = 0
        self.read = 0
        self.outcome: m.Outcome | None = None
        self.engine = self.engine_class(self.settings, run_id="run", now=now, epoch=0.0, chance=self.rng.random)
        self.wished: set[str] = set()

    # --- life ---

    def start(self, recovery: Recovery | None = None, state: Fold | None = None) -> None:
        if recovery is not None and state is not None:
            rows = {row.key: row for row in self.rows}
            open_rows = [(rows[key], trail) for key, trail in recovery.open_trails.items()]
            event = m.Recovered(
                open_rows,
                recovery.finished,
                state.accepted,
                state.retries,
                state.gen,
                len(self.files[m.Tape.OUTPUT].durable),
            )
            self.feed(event)
        else:
            self.feed(m.TimeCame())

    def schedule(self, delay: float, what: Callable[[], m.Event | None]) -> None:
        self.count += 1
        heappush(self.queue, (self.now + delay, self.count, what))

    def step(self) -> bool:
        """Let the next thing happen; False once the run is over."""
        if self.outcome is not None:
            return False
        if not self.queue:
            raise Violation(f"the run waits for nothing: {self.engine.desk.in_phase}")
        self.now, _, what = heappop(self.queue)
        event = what()
        if event is not None:
            self.feed(event)
        return True

    def run(self) -> m.Outcome:
        for _ in range(100_000):
            if not self.step():
                break
        else:
            raise Violation("the run does not end")
        for tape in self.tapes.values():  # a run that ends in good order closes its tapes
            tape.eager = True
            if not tape.syncing:
                tape.begin()
            if tape.syncing:
                tape.complete()
        assert self.outcome is not None
        return self.outcome

    def feed(self, event: m.Event) -> None:
        for instruction in self.engine.handle(event, self.now):
            self.carry_out(instruction)
        if isinstance(event, m.CancelRequested):
            self.wished |= event.keys or set()
        if self.wished and isinstance(event, m.Synced):
            self.acknowledge()
        for tape in self.tapes.values():
            self.sync(tape)
        if self.count % 16 == 0:
            self.engine.check_invariants()

    # --- the edge ---

    def carry_out(self, instruction: m.Instruction) -> None:
        match instruction:
            case m.Append(line, lazy):
                if b'{"intent":' in line:
                    self.truth.intended.add(orjson.loads(line[9:])["intent"]["key"])
                self.tapes[m.Tape.JOURNAL].give(line, lazy=lazy)
            case m.Emit(line):
                self.tapes[m.Tape.OUTPUT].give(line, lazy=False)
            case m.Submit(job, attempt):
                self.submit(job, attempt)
            case m.Poll(job, attempt):
                self.exchange(0.02, lambda: self.poll(job, attempt))
            case m.Cancel(job, attempt):
                self.exchange(0.05, lambda: self.cancel(job, attempt))
            case m.Read(rows):
                self.read_rows(rows)
            case m.Wake(at):
                self.count += 1
                heappush(self.queue, (max(at, self.now), self.count, m.TimeCame))
            case m.Finish(outcome):
                self.outcome = outcome

    def sync(self, tape: Tape) -> None:
        if tape.begin():
            latency = self.rng.choice((0.0005, 0.004, 0.03)) * (0.5 + self.rng.random())
            self.schedule(latency, lambda: self.synced(tape))

    def synced(self, tape: Tape) -> m.Event:
        lines = tape.file.cached.split(b"\n")
        event = tape.complete()
        if tape.kind is m.Tape.OUTPUT:
            self.truth.done |= {orjson.loads(line)["custom_id"] for line in lines if line}
        return event

    def acknowledge(self) -> None:
        """A cancel counts as acknowledged when the engine has it on the disk and the record is not yet written."""
        desk = self.engine.desk
        for key in self.wished:
            job = desk.unsubmitted.get(key) or next((job for job in desk.watched.values() if job.key == key), None)
            if (
                job is not None
                and job.reason is not None
                and job.remember().latch_synced
                and job.phase is not Phase.ENDING
            ):
                self.truth.cancelled.add(key)

    def exchange(self, most: float, what: Callable[[], m.Event]) -> None:
        self.schedule(most * self.rng.random(), what)

    def submit(self, job: Job, attempt: int) -> None:
        """A POST takes 0 to 300 ms; it creates its job somewhere on the way."""
        there, back = 0.15 * self.rng.random(), 0.15 * self.rng.random()
        on_its_way = (self.now + there, job.key)
        self.posts.append(on_its_way)

        def arrives() -> None:
            self.posts.remove(on_its_way)
            answer = self.service.post(job.key, self.now)
            self.schedule(back, lambda: self.submitted(job, attempt, answer))

        self.schedule(there, arrives)

    def submitted(self, job: Job, attempt: int, answer) -> m.Event:
        verdict = read_submit(answer, self.now)
        if isinstance(verdict, Accepted):
            return m.SubmitAccepted(job, attempt, verdict)
        if isinstance(verdict, Ambiguous):
            self.truth.ambiguous.add(job.key)
            return m.SubmitFailed(job, attempt, verdict)
        return m.SubmitRefused(job, attempt, verdict)

    def poll(self, job: Job, attempt: int) -> m.Event:
        assert job.job_id is not None
        verdict = read_poll(self.service.get(job.job_id, self.now), self.now, job.job_id)
        return (
            m.PollAnswered(job, attempt, verdict) if isinstance(verdict, Seen) else m.PollFailed(job, attempt, verdict)
        )

    def cancel(self, job: Job, attempt: int) -> m.Event:
        assert job.job_id is not None
        return m.CancelAnswered(
            job, attempt, read_cancel(self.service.cancel(job.job_id, self.now), self.now, job.job_id)
        )

    def read_rows(self, rows: int) -> None:
        for row in self.rows[self.read : self.read + rows]:
            self.schedule(0.0, lambda row=row: m.RowRead(row))
        self.read += rows
        if self.read >= len(self.rows):
            self.schedule(0.0, m.InputEnded)


def first_process(seed: int, rows: int, process_class: type[Process] = Process) -> Process:
    """A fresh batch with a few cancels on their way."""
    files = {m.Tape.JOURNAL: File(HEADER), m.Tape.OUTPUT: File()}
    process = process_class(seed, [Row(f"row-{i}") for i in range(rows)], files, Service(seed), Truth(), now=0.0)
    for row in process.rows:
        if chance(seed, row.key, "cancel") < 0.2:
            wish = m.CancelRequested(frozenset({row.key}), CancelReason.USER)
            process.schedule(2.5 * chance(seed, row.key, "when"), lambda wish=wish: wish)
    process.start()
    return process


def images(process: Process, way: str, rng: random.Random) -> tuple[dict[m.Tape, bytes], Service, Truth]:
    """What is left if the process ends here and now. POSTs that are on their way may arrive all the same."""
    service, truth = process.service.copy(), process.truth.copy()
    for arrives_at, key in process.posts:
        if rng.random() < 0.5:
            service.post(key, arrives_at)
    truth.crashes += 1
    return {kind: file.after(way, rng) for kind, file in process.files.items()}, service, truth


@dataclass
class Startup:
    """How a batch is taken up again: fold, cut the torn tails, recover. Mutants replace its steps."""

    def lines(self, journal: bytes) -> Iterator[bytes]:
        yield from journal.splitlines(keepends=True)

    def fold(self, journal: bytes) -> Fold:
        return fold(line + (b"\n" if cut else b"") for line, cut in _lines(journal))

    def cut(self, data: bytes, good_to: int) -> bytes:
        return data[:good_to]

    def recover(self, state: Fold, output: bytes) -> Recovery:
        return recover(state, output)


def _lines(data: bytes) -> Iterator[tuple[bytes, bool]]:
    parts = data.split(b"\n")
    for part in parts[:-1]:
        yield part, True
    if parts[-1]:
        yield parts[-1], False
