"""The one place where jobs change: their phase, their entries in the journal, their records.

The lanes decide what should happen; the desk does it, keeps the counts, and collects the instructions of
the current event. Nothing here looks at services or limits beyond telling the gate what became safe.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from zlib import crc32

from batchrun.core.jobs.job import Job, Row
from batchrun.core.jobs.lifecycle import OPEN_PHASES, TRANSITIONS, ImpossibleTransition, Phase, Step
from batchrun.core.jobs.messages import Append, BatchFile, Emit, Instruction
from batchrun.core.jobs.record_of import record_of
from batchrun.core.journal.entries import Done, Entry
from batchrun.core.records.artifacts import Artifact
from batchrun.core.records.record import Response
from batchrun.core.responses.outcome import Ended
from batchrun.core.settings.settings import Settings
from batchrun.core.taxonomy.states import State

Wait = Callable[[Job], None]
"""What is to happen with a job when its line is synced."""


class Jobs:
    """Jobs and tapes. `now` is the engine's clock, `epoch` what to add to it for the time of day."""

    def __init__(self, settings: Settings, run_id: str, epoch: float, chance: Callable[[], float]) -> None:
        self.settings = settings
        self.run_id = run_id
        self.epoch = epoch
        self.chance = chance
        self.now = 0.0
        self.out: list[Instruction] = []
        self.touched = True  # something changed besides looks at jobs that go on

        self.unsubmitted: dict[str, Job] = {}  # by key: rows without a job id, whatever their phase
        self.watched: dict[str, Job] = {}  # by job id
        self.in_phase: dict[Phase, int] = dict.fromkeys(Phase, 0)
        self.open_jobs = 0
        self.latched = 0  # jobs that are to end and have no record yet

        self.states: Counter[str] = Counter()
        self.codes: Counter[tuple[str, str]] = Counter()
        self.with_warnings = 0
        self.accepted = 0
        self.retries = 0
        self.stale = 0

        self.gen = 0
        self.output_end = 0
        self.unsynced_records = 0  # bytes, those of answers whose files are being written included
        self._given = {BatchFile.JOURNAL: 0, BatchFile.OUTPUT: 0}
        self._safe = {BatchFile.JOURNAL: 0, BatchFile.OUTPUT: 0}
        self._waits: dict[BatchFile, deque[tuple[int, Job, Wait]]] = {
            BatchFile.JOURNAL: deque(),
            BatchFile.OUTPUT: deque(),
        }
        self._lines: deque[tuple[int, int, str]] = deque()  # length, CRC and state of records that wait for their sync

    @property
    def wall(self) -> float:
        """The time of day, in seconds since 1970; it goes on evenly whatever the wall clock does."""
        return self.epoch + self.now

    def instruct(self, instruction: Instruction) -> None:
        self.out.append(instruction)

    # --- jobs ---

    def open(self, row: Row) -> Job:
        """A new job for a row, waiting."""
        job = Job(row)
        self.unsubmitted[row.key] = job
        self.in_phase[Phase.WAITING] += 1
        return job

    def move(self, job: Job, step: Step) -> None:
        """Let `job` take a step; raises ImpossibleTransition for one that the table does not know."""
        phase = job.phase
        target = TRANSITIONS.get((phase, step))
        if target is None:
            raise ImpossibleTransition(phase, step, job.story())
        job.phase = target
        in_phase = self.in_phase
        in_phase[phase] -= 1
        in_phase[target] += 1
        if step is not Step.LOOK_DUE and step is not Step.STILL_OPEN:
            self.open_jobs += (target in OPEN_PHASES) - (phase in OPEN_PHASES)
            self.touched = True

    def identify(self, job: Job, job_id: str, submitted_at: float) -> None:
        """Give the job the id under which the service knows it."""
        del self.unsubmitted[job.key]
        self.watched[job_id] = job
        job.job_id = job_id
        job.submitted_at = submitted_at

    def begin_again(self, job: Job) -> None:
        """Forget the attempt that ended; the job is a row without an id again."""
        if job.job_id is not None and self.watched.get(job.job_id) is job:
            del self.watched[job.job_id]
            self.unsubmitted[job.key] = job
        job.attempt += 1
        job.job_id = job.look = job.submitted_at = job.running_at = None

    # --- tapes ---

    def append(self, entry: Entry, job: Job, then: Wait | None = None, *, lazy: bool = False) -> None:
        """Append an entry to the journal; `then(job)` is called once it is synced."""
        self.out.append(Append(entry.to_line(), lazy))
        self._given[BatchFile.JOURNAL] += 1
        if then is not None:
            self._waits[BatchFile.JOURNAL].append((self._given[BatchFile.JOURNAL], job, then))

    def note(self, entry: Entry) -> None:
        """Append an entry that is of no job in memory."""
        self.append(entry, _NOBODY, _nothing)

    def record(
        self,
        job: Job,
        end: Ended,
        response: Response | None,
        then: Wait | None,
        artifacts: tuple[Artifact, ...] = (),
    ) -> None:
        """Write the record of a job that ended so and whose `artifacts` are on the disk; `then(job)` is called once it
        is synced."""
        self.move(job, Step.ENDED)
        self.latched -= job.reason is not None
        record = record_of(job, end, response, self.run_id, self.wall, artifacts)
        line = record.to_json() + b"\n"
        self.out.append(Emit(line))
        self.states[record.state.value] += 1
        if record.error is not None and record.state is not State.SUCCEEDED:
            self.codes[record.state.value, record.error.code or record.error.kind] += 1
        self.with_warnings += record.state is State.SUCCEEDED and bool(record.warnings)
        self._given[BatchFile.OUTPUT] += 1
        self._waits[BatchFile.OUTPUT].append((self._given[BatchFile.OUTPUT], job, then or _nothing))
        self._lines.append((len(line), crc32(line), record.state.value))
        self.unsynced_records += len(line)

    def synced(self, tape: BatchFile, upto: int) -> None:
        """The first `upto` lines given to `tape` are on the disk."""
        self._safe[tape] = max(self._safe[tape], upto)
        waits = self._waits[tape]
        while waits and waits[0][0] <= upto:
            _, job, then = waits.popleft()
            if tape is BatchFile.OUTPUT:
                self._finish(job)
            then(job)

    @property
    def all_synced(self) -> bool:
        """Whether every line that somebody waits for is on the disk."""
        return not any(self._waits.values())

    def _finish(self, job: Job) -> None:
        length, crc, state = self._lines.popleft()
        self.unsynced_records -= length
        self.append(Done(job.key, self.gen, self.output_end, length, crc, state), job, lazy=True)
        self.output_end += length
        self.move(job, Step.RECORD_SYNCED)
        if job.job_id is None or self.watched.get(job.job_id) is not job:
            del self.unsubmitted[job.key]
        else:
            del self.watched[job.job_id]


_NOBODY = Job(Row(""))


def _nothing(_: Job) -> None:
    """For lines that nobody waits for."""
