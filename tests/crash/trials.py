"""Crash trials: cut a run off, take it up again (perhaps cutting that off too), and hold the end against the promises."""

import random
from collections import Counter

import orjson

from batchrun.core import messages as m
from batchrun.core.ledger import Fold, Started
from batchrun.core.recovery import Recovery
from tests.crash.service import CREATED, RETRYABLE, Service
from tests.crash.world import File, Process, Startup, Truth, Violation, first_process, images

# The rows of the crash table.
BEFORE_INTENT = "before 1 is synced"
AFTER_INTENT = "after 1, before 3 is synced"
AFTER_ID = "after 3"
AFTER_ENDED = "after `ended`"
CANCELLING_WITH_ID = "after `cancelling`, id known"
CANCELLING_WITHOUT_ID = "after `cancelling`, no id"
OUTPUT_TORN = "6 torn"
DONE_MISSING = "6 synced, `done` missing"
OUTPUT_CUT = "output deleted or shortened"
DURING_REPAIR = "during repair"
CRASH_TABLE = (
    BEFORE_INTENT, AFTER_INTENT, AFTER_ID, AFTER_ENDED, CANCELLING_WITH_ID, CANCELLING_WITHOUT_ID, OUTPUT_TORN, DONE_MISSING,
    OUTPUT_CUT, DURING_REPAIR,
)  # fmt: skip


class Trials:
    """Runs trials with one kind of process and start-up, counting what was met."""

    def __init__(self, process_class: type[Process] = Process, startup: Startup | None = None, rows: int = 20) -> None:
        self.process_class = process_class
        self.startup = startup or Startup()
        self.rows = rows
        self.met: Counter[tuple[str, str]] = Counter()
        self.trials = 0
        self.undisturbed = 0

    def of_seed(self, seed: int, stride: int, phase: int = 0) -> None:
        """One forward run, cut off at every `stride`-th event in both ways, and held against the promises itself."""
        process = first_process(seed, self.rows, self.process_class)
        events = 0
        while True:
            events += 1
            if events % stride == phase % stride:
                for way in ("kill", "power"):
                    self.trial(process, way, random.Random(f"{seed} {events} {way}"))
            if not process.step():
                break
        process.run()
        self.check(process, seed)
        self.undisturbed += 1

    def trial(self, process: Process, way: str, rng: random.Random) -> None:
        """Cut `process` off here (the process itself goes on untouched) and bring the batch home."""
        self.trials += 1
        left, service, truth = images(process, way, rng)
        if rng.random() < 0.1:
            left[m.Tape.OUTPUT] = self.sabotage(left[m.Tape.OUTPUT], truth, way, rng)
        taken_up = self.take_up(process, left, service, truth, way, rng)
        if rng.random() < 0.5:  # a second crash, during recovery
            for _ in range(rng.randrange(1, 150)):
                if not taken_up.step():
                    break
            else:
                left, service, truth = images(taken_up, way, rng)
                taken_up = self.take_up(taken_up, left, service, truth, way, rng)
        if taken_up.run() is not m.Outcome.COMPLETE:
            raise Violation(f"the batch ended {taken_up.outcome}")
        self.check(taken_up, process.seed)

    def sabotage(self, output: bytes, truth: Truth, way: str, rng: random.Random) -> bytes:
        """Somebody deletes or shortens the output."""
        truth.output_was_cut = True
        self.met[OUTPUT_CUT, way] += 1
        return b"" if rng.random() < 0.3 else output[: rng.randrange(len(output) + 1)]

    def take_up(
        self, before: Process, left: dict[m.Tape, bytes], service: Service, truth: Truth, way: str, rng: random.Random
    ) -> Process:
        """Start-up on what a crash left; perhaps cut off in the middle of its own repair, and begun again."""
        journal, output = left[m.Tape.JOURNAL], left[m.Tape.OUTPUT]
        for _ in range(2):
            state = self.startup.fold(journal)
            if state.corrupt:
                raise Violation(f"an innocent {way} looks like corruption at {state.good_to}")
            recovery = self.startup.recover(state, output)
            if recovery.output_corrupt_at is not None:
                raise Violation(f"an innocent {way} looks like a corrupt output at {recovery.output_corrupt_at}")
            lost = truth.done - recovery.finished.keys()
            if lost and not truth.output_was_cut:
                raise Violation(f"a {way} lost the records of {sorted(lost)}, which were reported done")
            self.count(before, state, recovery, journal, output, way)
            torn = state.torn or recovery.output_good_to < len(output)
            journal = self.startup.cut(journal, state.good_to)
            if torn and rng.random() < 0.3:  # a crash between the two cuts: everything runs again
                self.met[DURING_REPAIR, way] += 1
                continue
            break
        output = self.startup.cut(output, recovery.output_good_to)
        files = {m.Tape.JOURNAL: File(journal + Started(1, before.now).to_line()), m.Tape.OUTPUT: File(output)}
        process = self.process_class(before.seed, before.rows, files, service, truth, before.now + 0.5 + rng.random())
        process.start(recovery, state)
        return process

    def count(self, before: Process, state: Fold, recovery: Recovery, journal: bytes, output: bytes, way: str) -> None:
        met = set()
        for key in before.truth.intended:
            trail = state.trails.get(key)
            if trail is None or trail.is_void:
                met.add(BEFORE_INTENT)
        for trail in recovery.open_trails.values():
            if trail.cancel and trail.job_id:
                met.add(CANCELLING_WITH_ID)
            elif trail.cancel:
                met.add(CANCELLING_WITHOUT_ID)
            elif trail.open_intent:
                met.add(AFTER_INTENT)
            elif trail.job_id:
                met.add(AFTER_ID)
            elif trail.retry_at is not None:
                met.add(AFTER_ENDED)
        if recovery.output_good_to < len(output):
            met.add(OUTPUT_TORN)
        if any(key in state.trails and state.trails[key].marker is None for key in recovery.finished):
            met.add(DONE_MISSING)
        self.met.update((what, way) for what in met)

    def check(self, process: Process, seed: int) -> None:
        """The promises, held against the end of a batch."""
        truth, service = process.truth, process.service
        where = f"seed {seed}, {truth.crashes} crashes: "
        process.engine.check_invariants()
        lines = process.files[m.Tape.OUTPUT].durable.split(b"\n")
        if lines.pop() != b"":
            raise Violation(where + "the output ends in a torn line")
        records: dict[str, dict] = {}
        for line in lines:
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError:
                raise Violation(where + "a line of the output is no JSON") from None
            if record["custom_id"] in records:
                raise Violation(where + f"{record['custom_id']} has two records")
            records[record["custom_id"]] = record
        if set(records) != {row.key for row in process.rows}:
            raise Violation(
                where + f"rows without a record: {sorted({row.key for row in process.rows} - set(records))}"
            )
        if service.violations:
            raise Violation(where + "; ".join(service.violations))
        unconfirmed = {key for key, record in records.items() if record["state"] == "unconfirmed"} - truth.ambiguous
        if len(unconfirmed) > truth.crashes * process.settings.submits:
            raise Violation(where + f"{len(unconfirmed)} rows unconfirmed by {truth.crashes} crashes")
        self.check_cancels(records, truth, process, where)
        self.check_jobs(records, service, process, where)
        for record in records.values():
            if record["retry_count"] > process.settings.retries:
                raise Violation(where + f"{record['custom_id']} was tried {record['retry_count'] + 1} times")

    def check_cancels(self, records: dict[str, dict], truth: Truth, process: Process, where: str) -> None:
        for key in truth.cancelled:
            if records[key]["state"] != "cancelled":
                raise Violation(where + f"{key} was cancelled, acknowledged, and ended {records[key]['state']}")
        for key, record in records.items():
            canary = f"payload of <{key}>".encode()
            if record["state"] == "cancelled" and any(canary in file.durable for file in process.files.values()):
                raise Violation(where + f"the payload of {key}, which is cancelled, reached a file")

    def check_jobs(self, records: dict[str, dict], service: Service, process: Process, where: str) -> None:
        journal = process.files[m.Tape.JOURNAL].durable
        for job in service.jobs.values():
            record = records[job.key]
            heard = record["state"] == "unconfirmed" or "submit_unanswered" in record["warnings"]
            known = record["job_id"] == job.id or any(attempt["job_id"] == job.id for attempt in record["attempts"])
            if not (heard or known) or (
                not heard and f'"{job.id}"'.encode() not in journal and record["job_id"] != job.id
            ):
                raise Violation(where + f"{job.id} was created and nobody knows of it: {record}")
            if record["state"] == "succeeded" and record["job_id"] == job.id and job.ends != "completed":
                raise Violation(where + f"{job.id} succeeded, says its record, and it did not")
        for key, posts in service.posts.items():
            created = [service.jobs[post.job] for post in posts if post.told == CREATED and post.job]
            for job in created[:-1]:
                if job.ends not in RETRYABLE:
                    raise Violation(where + f"{key} was paid for again although {job.id} ended {job.ends}")
