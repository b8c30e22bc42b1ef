"""The real core and the real tapes on a disk of paper and a simulated service, in virtual time.

A `Process` runs one engine from its start to its end or to its crash. Syncs take their time: a group is written
when a tape gathers it, and synced and reported after a latency; a crash in between leaves bytes that were given to
the kernel and are not on the disk.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from zlib import crc32

import orjson

from batchrun.core.engine.engine import Engine
from batchrun.core.jobs import messages as m
from batchrun.core.jobs.ended_ids import EndedIds
from batchrun.core.jobs.job import About, CancelReason, Job, Row
from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.journal.entries import Header, Started, mark
from batchrun.core.journal.fold import JournaledRow, JournalState
from batchrun.core.journal.recover import Recovery
from batchrun.core.records.artifact_names import left_behind
from batchrun.core.responses.verdict import Accepted, Ambiguous, JobReport, read_cancel, read_poll, read_submit
from batchrun.core.settings.settings import Settings
from batchrun.edge.append_file import AppendFailed, Disk, Lines, SyncGroup, open_append
from batchrun.edge.artifacts import Folder, JobFiles
from batchrun.edge.source.checked import row_sha256
from tests.core.invariants import check_invariants
from tests.crash.crashing import JOURNAL, OUTPUT, SHELF, copied, crash, names_on
from tests.crash.service import Service, chance
from tests.edge.paper_disk import PaperDisk

SETTINGS = Settings(
    concurrency=8, submits=4, poll_min=0.2, poll_max=1.5, poll_rate=500, cancel_settle=1.0, cancel_patience=6.0, drain=5.0,
    artifacts=SHELF,
)  # fmt: skip
HEADER = Header(1, "run", "sim", "sim://", "", "", {}, "rows", 0.0).to_line()
PART = 4  # rows that are taken up at once
PATHS = {m.BatchFile.JOURNAL: JOURNAL, m.BatchFile.OUTPUT: OUTPUT}


@dataclass
class Truth:
    """What must hold in the end, whatever is cut off: collected while processes run."""

    done: set[str] = field(default_factory=set)  # rows that were reported done
    cancelled: set[str] = field(default_factory=set)  # rows whose cancel was acknowledged
    ambiguous: set[str] = field(default_factory=set)  # rows whose answer the service lost
    intended: set[str] = field(default_factory=set)
    crashes: int = 0
    output_was_cut: bool = False
    asked: dict[str, int] = field(default_factory=dict)  # rows whose record was dropped to try again, and how often
    wishes: list[str | None] = field(default_factory=list)  # of other processes, on the disk: a row to end; None is all
    heard: dict[str, int] = field(
        default_factory=dict
    )  # rows whose end was in hand at a crash, and their POSTs by then

    def copy(self) -> "Truth":
        return Truth(
            set(self.done),
            set(self.cancelled),
            set(self.ambiguous),
            set(self.intended),
            self.crashes,
            self.output_was_cut,
            dict(self.asked),
            list(self.wishes),
            dict(self.heard),
        )


class Violation(AssertionError):
    pass


class Shelf(Folder):
    """A folder on a disk that has no folders."""

    def names(self) -> list[str]:
        raise NotImplementedError

    def sync(self) -> None:
        self.disk.sync_folder(self.path)


class Process:
    """One run of the engine over the files, from `start` to Finish, or for as long as it is driven."""

    engine_class: type[Engine] = Engine
    service_class: type[Service] = Service
    repeats_ids = False
    keeps_keys = 0.0
    settings = SETTINGS

    def __init__(
        self, seed: int, rows: list[Row], paper: PaperDisk, service: Service, truth: Truth, now: float
    ) -> None:
        self.seed, self.rows, self.paper, self.service, self.truth, self.now = seed, rows, paper, service, truth, now
        self.rng = random.Random(crc32(repr((seed, now)).encode()))
        self.safe = dict.fromkeys(PATHS, 0)
        self.tapes = {kind: self.open_tape(kind, paper.disk()) for kind in PATHS}
        self.under_way: dict[m.BatchFile, SyncGroup | None] = dict.fromkeys(PATHS)
        self.queue: list[tuple[float, int, Callable[[], m.Event | None]]] = []
        self.posts: list[tuple[float, str]] = []  # on their way: when they arrive, and whose they are
        self.count = 0
        self.read = 0
        self.to_come = {row.key for row in rows}
        self.outcome: m.Outcome | None = None
        self.engine = self.engine_class(
            self.settings, run_id="run", now=now, epoch=0.0, chance=self.rng.random, repeats_ids=self.repeats_ids,
            keeps_keys=self.keeps_keys,
        )  # fmt: skip
        self.wished: set[str] = set()
        self.shelf = Shelf(SHELF, SHELF, (0, 0), paper.disk())

    def open_tape(self, kind: m.BatchFile, disk: Disk) -> Lines:
        def safe(count: int) -> None:
            self.safe[kind] = count

        def failed(error: AppendFailed) -> None:
            raise Violation(f"a tape failed on an honest disk: {error}")

        return Lines(
            open_append(PATHS[kind], disk), safe=safe, failed=failed, mark=mark if kind is m.BatchFile.JOURNAL else None
        )

    # --- life ---

    def start(self, recovery: Recovery | None = None, state: JournalState | None = None) -> None:
        self.tapes[m.BatchFile.JOURNAL].file.append(Started(1, self.now).to_line())
        if recovery is not None and state is not None:
            rows = {row.key: row for row in self.rows}
            open_rows = [(rows[key], journaled) for key, journaled in recovery.open_journaled.items()]
            event = m.Recovered(
                recovery.finished,
                state.accepted,
                state.retries,
                state.gen,
                self.tapes[m.BatchFile.OUTPUT].file.end,
                state.heard_to,
                state.cancel_all,
                None if None in self.truth.wishes[state.heard_to :] else set(self.truth.wishes[state.heard_to :]),
                files=self.left(recovery),
                ended_ids=self.ended_ids(recovery, state),
            )
            self.feed(event)
            numbers = range(state.heard_to, len(self.truth.wishes))
            self.take_up(open_rows, [lambda number=number: self.read_wish(number) for number in numbers])
        else:
            self.feed(m.TimerFired())

    def ended_ids(self, recovery: Recovery, state: JournalState) -> EndedIds:
        ids = list(recovery.ended_ids(state))
        return EndedIds((job_id for _, job_id in ids), (self.body_hash(key) for key, _ in ids))

    @classmethod
    def body_hash(cls, key: str) -> int:
        return crc32(cls.service_class.body_of(key).encode()) if cls.repeats_ids else 0

    def take_up(self, rows: list[tuple[Row, JournaledRow]], then: list[Callable[[], m.Event]]) -> None:
        """Rows are taken up in parts, and other things happen in between; what was wished follows behind the last."""
        part, rest = rows[:PART], rows[PART:]
        self.feed(m.RowsTakenUp(part, more=bool(rest)))
        if rest:
            self.schedule(0.002, lambda: self.take_up(rest, then))
        else:
            for wish in then:
                self.feed(wish())

    def left(self, recovery: Recovery) -> dict[str, tuple[str, ...]]:
        """What an earlier process left of open rows; what it left half written is removed."""
        left, halves = left_behind(names_on(self.paper), "run", recovery.open_journaled)
        self.shelf.remove(halves)
        if halves:
            self.shelf.sync()
        return left

    def schedule(self, delay: float, what: Callable[[], m.Event | None]) -> None:
        self.count += 1
        heappush(self.queue, (self.now + delay, self.count, what))

    def step(self) -> bool:
        """Let the next thing happen; False once the run is over."""
        if self.outcome is not None:
            return False
        if not self.queue:
            raise Violation(f"the run waits for nothing: {self.engine.jobs.in_phase}")
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
        for kind, lines in self.tapes.items():  # a run that ends in good order closes its tapes
            group = self.under_way[kind]
            if group is not None:
                self.land(kind, group)
            lines.file.close()
        assert self.outcome is not None
        return self.outcome

    def feed(self, event: m.Event) -> None:
        for instruction in self.engine.handle(event, self.now):
            self.carry_out(instruction)
        if isinstance(event, m.CancelRequested):
            self.wished |= event.keys or set()
        if self.wished and isinstance(event, m.Synced):
            self.acknowledge()
        for kind in PATHS:
            self.sync(kind)
        if self.count % 16 == 0:
            check_invariants(self.engine)

    def wish(self, key: str | None) -> m.Event:
        """Another process wishes the end of a row, or of all: on the disk at once, and read a moment later."""
        self.truth.wishes.append(key)
        return self.read_wish(len(self.truth.wishes) - 1)

    def read_wish(self, number: int) -> m.CancelRequested:
        key = self.truth.wishes[number]
        keys = None if key is None else frozenset({key})
        return m.CancelRequested(keys, CancelReason.USER, (keys or frozenset()) & self.to_come, number + 1)

    # --- the edge ---

    def carry_out(self, instruction: m.Instruction) -> None:
        match instruction:
            case m.Append(line, lazy):
                if b'{"intent":' in line:
                    self.truth.intended.add(orjson.loads(line[9:])["intent"]["key"])
                self.tapes[m.BatchFile.JOURNAL].append(line, lazy=lazy)
            case m.Emit(line):
                self.tapes[m.BatchFile.OUTPUT].append(line, lazy=False)
            case m.Submit(job, attempt):
                self.submit(job, attempt)
            case m.Poll(job, attempt, dated):
                self.exchange(0.02, lambda: self.poll(job, attempt, dated=dated))
            case m.Cancel(job, attempt):
                self.exchange(0.05, lambda: self.cancel(job, attempt))
            case m.StoreArtifacts(job, attempt, body, found):
                self.store(job, attempt, JobFiles(self.shelf, body, found))
            case m.DiscardArtifacts(job, attempt, names):
                self.discard(job, attempt, names)
            case m.ReadRows(rows):
                self.read_rows(rows)
            case m.Wake(at):
                self.count += 1
                heappush(self.queue, (max(at, self.now), self.count, m.TimerFired))
            case m.Finish(outcome):
                self.outcome = outcome

    def sync(self, kind: m.BatchFile) -> None:
        """Hand what has gathered to the kernel, and let the disk take its time."""
        group = self.tapes[kind].file.gather()
        if group is not None:
            group.write()
            self.under_way[kind] = group
            latency = self.rng.choice((0.0005, 0.004, 0.03)) * (0.5 + self.rng.random())
            self.schedule(latency, lambda: self.synced(kind, group))

    def synced(self, kind: m.BatchFile, group: SyncGroup) -> m.Event:
        self.land(kind, group)
        if kind is m.BatchFile.OUTPUT:
            self.truth.done |= keys_in(group.data)
        return m.Synced(kind, self.safe[kind])

    def land(self, kind: m.BatchFile, group: SyncGroup) -> None:
        self.under_way[kind] = None
        group.sync()
        self.tapes[kind].file.settle(group)

    def acknowledge(self) -> None:
        """A cancel counts as acknowledged when the engine has it on the disk and the record is not yet written."""
        desk = self.engine.jobs
        for key in self.wished:
            job = next((job for job in desk.all() if job.key == key), None)
            if (
                job is not None
                and job.cancel_reason is not None
                and job.cancel_synced
                and job.phase is not Phase.ENDING
            ):
                self.truth.cancelled.add(key)

    def exchange(self, most: float, what: Callable[[], m.Event | None]) -> None:
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

    @staticmethod
    def arrives_after_all(service: Service, at: float, key: str) -> None:
        """A POST that was on its way when the process ended."""
        service.post(key, at)

    def submitted(self, job: Job, attempt: int, answer) -> m.Event:
        verdict = read_submit(answer, self.now)
        if isinstance(verdict, Accepted):
            named = self.service.jobs[verdict.job_id or ""]
            self.service.heard.add(named.id)
            if self.service.body_of(named.key) != self.service.body_of(job.key):
                self.truth.ambiguous.add(job.key)
            return m.SubmitAccepted(job, attempt, verdict)
        if isinstance(verdict, Ambiguous):
            self.truth.ambiguous.add(job.key)
            return m.SubmitFailed(job, attempt, verdict)
        return m.SubmitRefused(job, attempt, verdict)

    def poll(self, job: Job, attempt: int, *, dated: bool) -> m.Event:
        assert job.job_id is not None
        verdict = read_poll(self.service.get(job.job_id, self.now), self.now, job.job_id, dated=dated)
        return (
            m.PollAnswered(job, attempt, verdict)
            if isinstance(verdict, JobReport)
            else m.PollFailed(job, attempt, verdict)
        )

    def cancel(self, job: Job, attempt: int) -> m.Event:
        assert job.job_id is not None
        self.truth.cancelled.add(
            job.key
        )  # the service is told to end it: no later run may take it for a row that goes on
        return m.CancelAnswered(
            job, attempt, read_cancel(self.service.cancel(job.job_id, self.now), self.now, job.job_id)
        )

    def row_read(self, row: Row) -> m.Event:
        self.to_come.discard(row.key)
        return m.RowRead(row)

    def store(self, job: Job, attempt: int, writing: JobFiles) -> None:
        """Files take their time: to be written and synced, to get their names, to have those on the disk."""

        def written() -> None:
            writing.write()
            self.exchange(0.02, published)

        def published() -> None:
            writing.publish()
            self.exchange(0.02, synced)

        def synced() -> m.Event:
            self.shelf.sync()
            return m.ArtifactsStored(job, attempt, tuple(writing.stored))

        self.exchange(0.05, written)

    def discard(self, job: Job, attempt: int, names: tuple[str, ...]) -> None:
        def removed() -> None:
            self.shelf.remove(names)
            self.exchange(0.02, synced)

        def synced() -> m.Event:
            self.shelf.sync()
            return m.ArtifactsDiscarded(job, attempt, names)

        self.exchange(0.02, removed)

    def read_rows(self, rows: int) -> None:
        for row in self.rows[self.read : self.read + rows]:
            self.schedule(0.0, lambda row=row: self.row_read(row))
        self.read += rows
        if self.read >= len(self.rows):
            self.schedule(0.0, m.InputEnded)


def line_of(key: str) -> bytes:
    """The line of a row in the input."""
    return orjson.dumps({"custom_id": key, "body": {"model": "m", "input": "x"}}) + b"\n"


def first_process(seed: int, rows: int, process_class: type[Process] = Process) -> Process:
    """A fresh batch with a few cancels on their way."""
    paper = PaperDisk({JOURNAL: HEADER, OUTPUT: b""})
    keys = [f"row-{i}" for i in range(rows)]
    given = [Row(key, About(body_hash=process_class.body_hash(key)), row_sha256(line_of(key))) for key in keys]
    process = process_class(seed, given, paper, process_class.service_class(seed), Truth(), now=0.0)
    for row in process.rows:
        luck = chance(seed, row.key, "cancel")
        if luck < 0.1:
            wish = m.CancelRequested(frozenset({row.key}), CancelReason.USER)
            process.schedule(2.5 * chance(seed, row.key, "when"), lambda wish=wish: wish)
        elif luck < 0.2:
            process.schedule(2.5 * chance(seed, row.key, "when"), lambda key=row.key: process.wish(key))
    if chance(seed, "all") < 0.05:
        process.schedule(5 * chance(seed, "when all"), lambda: process.wish(None))
    process.start()
    return process


def wreck(process: Process, way: str, rng: random.Random) -> tuple[PaperDisk, Service, Truth]:
    """What is left if the process ends here and now. POSTs that are on their way may arrive all the same."""
    service, truth, paper = process.service.copy(), process.truth.copy(), copied(process.paper)
    for post in process.posts:
        if rng.random() < 0.5:
            process.arrives_after_all(service, *post)
    truth.crashes += 1
    crash(paper, way, rng, writing=True)
    return paper, service, truth


def keys_in(records: bytes) -> set[str]:
    return {orjson.loads(line)["custom_id"] for line in records.split(b"\n") if line}
