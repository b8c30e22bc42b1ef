"""Crash trials: cut a run off, take it up again (perhaps cutting that off too), and hold the end against the promises."""

import random
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256

import orjson

from batchrun.core.jobs import messages as m
from batchrun.core.journal.entries import Rewrite
from batchrun.core.journal.recover import read_record
from batchrun.core.records.artifact_names import left_behind
from batchrun.core.taxonomy.rules import State
from tests.core.invariants import check_invariants
from tests.crash.crashing import JOURNAL, OUTPUT, crash, names_on, shelf
from tests.crash.service import CREATED, SAID, Service
from tests.crash.startup import Found, Startup
from tests.crash.world import Process, Truth, Violation, first_process, wreck
from tests.edge.paper_disk import Crash, PaperDisk

# The rows of the crash table.
BEFORE_INTENT = "before 1 is synced"
AFTER_INTENT = "after 1, before 3 is synced"
AFTER_ID = "after 3"
AFTER_ENDED = "after `ended`"
CANCELLING_WITH_ID = "after `cancelling`, id known"
CANCELLING_WITHOUT_ID = "after `cancelling`, no id"
WISH_HEARD = "a wish heard, its row open"
OUTPUT_TORN = "6 torn"
DONE_MISSING = "6 synced, `done` missing"
OUTPUT_CUT = "output deleted or shortened"
FILES_ALONE = "files stored, no record"
DURING_REPAIR = "during repair"
DURING_REWRITE = "during rewrite"
CRASH_TABLE = (
    BEFORE_INTENT, AFTER_INTENT, AFTER_ID, AFTER_ENDED, CANCELLING_WITH_ID, CANCELLING_WITHOUT_ID, WISH_HEARD, OUTPUT_TORN, DONE_MISSING,
    OUTPUT_CUT, FILES_ALONE, DURING_REPAIR, DURING_REWRITE,
)  # fmt: skip

# What `--retry-failed` may be asked for: all but success. What may still cost twice must come back unpaid.
TO_TRY_AGAIN = frozenset(state.value for state in State) - {State.SUCCEEDED.value}
PAID_ONCE, PAID_AGAIN, UNCONFIRMED = "paid once", "paid again", "unconfirmed"


class Trials:
    """Runs trials with one kind of process and start-up, counting what was met."""

    def __init__(self, process_class: type[Process] = Process, startup: Startup | None = None, rows: int = 20) -> None:
        self.process_class = process_class
        self.startup = startup or Startup()
        self.rows = rows
        self.met: Counter[tuple[str, str]] = Counter()
        self.files_met: Counter[str] = Counter()
        self.tried_again: Counter[str] = Counter()  # rows whose record was dropped, by what became of them
        self.trials = 0
        self.undisturbed = 0
        self.stage = ""
        self.begun: Rewrite | None = None

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
        paper, service, truth = wreck(process, way, rng)
        if rng.random() < 0.1:
            self.sabotage(paper, truth, way, rng)
        taken_up = self.take_up(process, paper, service, truth, way, rng)
        if rng.random() < 0.5:  # a second crash, during recovery
            for _ in range(rng.randrange(1, 150)):
                if not taken_up.step():
                    break
            else:
                taken_up = self.take_up(taken_up, *wreck(taken_up, way, rng), way, rng)
        self.finish(taken_up)
        if rng.random() < 0.05:  # the batch is over; what failed is tried again
            retried = self.take_up(taken_up, *wreck(taken_up, way, rng), way, rng, retry=1.0)
            self.finish(retried)

    def finish(self, process: Process) -> None:
        if process.run() is not m.Outcome.COMPLETE:
            raise Violation(f"the batch ended {process.outcome}")
        self.check(process, process.seed)

    def sabotage(self, paper: PaperDisk, truth: Truth, way: str, rng: random.Random) -> None:
        """Somebody deletes or shortens the output."""
        truth.output_was_cut = True
        self.met[OUTPUT_CUT, way] += 1
        if rng.random() < 0.3:
            del paper.names[OUTPUT], paper.durable_names[OUTPUT]
        else:
            file = paper.names[OUTPUT]
            del file.data[rng.randrange(len(file.data) + 1) :]
            file.durable = bytes(file.data)

    def take_up(
        self,
        before: Process,
        paper: PaperDisk,
        service: Service,
        truth: Truth,
        way: str,
        rng: random.Random,
        retry: float = 0.15,
    ) -> Process:
        """Start-up on what a crash left; perhaps cut off at one of its own steps, and begun again, and again.

        With the chance of `retry` the records of some failed rows are dropped, so that these are tried again.
        """
        wanted = {row.key for row in before.rows if rng.random() < 0.7} if rng.random() < retry else set()
        self.begun = None
        self.count(before, self.look(paper, truth, way), paper, way)
        crashes = (0, 0, 0, 0, 1, 1, 2) if not wanted else (0, 1, 1, 2)
        for last in (*[False] * rng.choice(crashes), True):
            paper.stop = None if last else paper.steps + rng.randrange(1, 40 if wanted else 16)
            try:
                found = self.make_ready(paper, service, truth, wanted, way)
            except Crash:
                self.met[self.stage, way] += 1
                crash(paper, way, rng)
                continue
            break
        paper.stop = None
        self.note_heard(before, found, service, truth, way)
        journal = bytes(paper.names[JOURNAL].data)
        service.lost |= {job_id for job_id in service.jobs if f'"{job_id}"'.encode() not in journal}
        process = self.process_class(before.seed, before.rows, paper, service, truth, before.now + 0.5 + rng.random())
        process.start(found.recovery, found.state)
        return process

    def note_heard(self, before: Process, found: Found, service: Service, truth: Truth, way: str) -> None:
        """A wish that counts as heard on the disk binds: its rows end cancelled, and are sent no more."""
        if truth.output_was_cut:
            return  # a record that was there when it was heard may be gone
        for wish in truth.wishes[: found.state.heard_to]:
            for key in [row.key for row in before.rows] if wish is None else [wish]:
                if key not in found.recovery.finished and key not in truth.asked:
                    self.met[WISH_HEARD, way] += 1
                    truth.cancelled.add(key)
                    truth.heard.setdefault(key, len(service.posts.get(key, ())))

    def look(self, paper: PaperDisk, truth: Truth, way: str) -> Found:
        found = self.startup.look(paper)
        state, recovery = found.state, found.recovery
        if state.corrupt:
            raise Violation(f"an innocent {way} looks like corruption at {state.good_to}")
        if recovery.output_corrupt_at is not None:
            raise Violation(f"an innocent {way} looks like a corrupt output at {recovery.output_corrupt_at}")
        if doubts := [*recovery.doubts, *recovery.strangers]:
            raise Violation(f"an innocent {way} looks like a changed output: {doubts}")
        lost = truth.done - recovery.finished.keys()
        if lost and not truth.output_was_cut:
            raise Violation(f"a {way} lost the records of {sorted(lost)}, which were reported done")
        whole = found.output[: found.recovery.output_good_to]
        if b'"sha256"' in whole:
            records = [orjson.loads(line) for line in whole.splitlines() if read_record(line)]
            self.check_files(records, paper, f"after a {way}: ")
        return found

    def check_files(self, records: Iterable[dict], paper: PaperDisk, where: str) -> set[str]:
        """Every file that a record names is there, as the record says; returns their paths."""
        named = set()
        for record in records:
            for artifact in record["artifacts"]:
                path = artifact["file"]
                data = bytes(paper.names[path].data) if path in paper.names else b""
                if (len(data), sha256(data).hexdigest()) != (artifact["size"], artifact["sha256"]):
                    raise Violation(where + f"{record['custom_id']} names a file that is not there: {path}: {data!r}")
                named.add(path)
        return named

    def make_ready(self, paper: PaperDisk, service: Service, truth: Truth, wanted: set[str], way: str) -> Found:
        """Everything that is done to the files before a process opens them."""
        disk, startup = paper.disk(), self.startup
        self.stage = DURING_REPAIR
        found = self.look(paper, truth, way)
        startup.cut(found, disk)
        self.stage = DURING_REWRITE
        order, begun = found.state.rewrite, self.begun
        if begun is not None and order is None and found.state.gen == begun.gen:
            stale = found.recovery.finished.keys() & begun.keys.keys()
            if stale:
                raise Violation(f"a rewriting counts as done, and the records of {sorted(stale)} are still there")
        announced = order is not None
        if order is None and wanted:
            try:
                order = startup.order(found, TO_TRY_AGAIN, wanted)
            except ValueError as error:
                raise Violation(f"a rewriting finds an output that start-up called good: {error}") from error
            wanted.clear()  # they are asked for once; a crash does not make the user ask again
        if order is None or not order.keys:
            return found
        if not announced:
            for key in order.keys:
                truth.asked[key] = truth.asked.get(key, 0) + 1
            truth.done -= order.keys.keys()
            truth.cancelled -= order.keys.keys()
            truth.heard = {key: posts for key, posts in truth.heard.items() if key not in order.keys}
            service.asked |= order.keys.keys()
        self.begun = order
        startup.rewrite(found, order, disk, announced=announced)
        rewritten = self.look(paper, truth, way)
        if (
            rewritten.state.rewrite is not None
            or rewritten.torn
            or rewritten.recovery.finished.keys() & order.keys.keys()
        ):
            raise Violation(f"a rewriting that came through is not done: {rewritten.recovery}")
        if rewritten.recovery.finished.keys() != found.recovery.finished.keys() - order.keys.keys():
            raise Violation("a rewriting finished or lost rows")
        return rewritten

    def count(self, before: Process, found: Found, paper: PaperDisk, way: str) -> None:
        state, recovery = found.state, found.recovery
        met = set()
        for key in before.truth.intended:
            journaled = state.journaled_rows.get(key)
            if journaled is None or journaled.is_void:
                met.add(BEFORE_INTENT)
        for journaled in recovery.open_journaled.values():
            if journaled.cancel and journaled.job_id:
                met.add(CANCELLING_WITH_ID)
            elif journaled.cancel:
                met.add(CANCELLING_WITHOUT_ID)
            elif journaled.open_intent:
                met.add(AFTER_INTENT)
            elif journaled.job_id:
                met.add(AFTER_ID)
            elif journaled.retry_at is not None:
                met.add(AFTER_ENDED)
        if recovery.output_good_to < len(found.output):
            met.add(OUTPUT_TORN)
        if any(key in state.journaled_rows and state.journaled_rows[key].marker is None for key in recovery.finished):
            met.add(DONE_MISSING)
        if left_behind(names_on(paper), "run", recovery.open_journaled)[0]:
            met.add(FILES_ALONE)
        self.met.update((what, way) for what in met)

    def check(self, process: Process, seed: int) -> None:
        """The promises, held against the end of a batch."""
        truth, service = process.truth, process.service
        where = f"seed {seed}, {truth.crashes} crashes: "
        check_invariants(process.engine)
        lines = process.paper.names[OUTPUT].durable.split(b"\n")
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
        for key in truth.asked:
            lost = records[key]["state"] == "unconfirmed"
            self.tried_again[UNCONFIRMED if lost else PAID_AGAIN if records[key]["attempts"] else PAID_ONCE] += 1
        self.check_cancels(records, truth, process, where)
        named = self.check_files(records.values(), process.paper, where)
        kept = {w.partition(":")[2] for record in records.values() for w in record["warnings"] if "artifact_kept" in w}
        stray = set(shelf(process.paper)) - named - kept
        if stray:
            raise Violation(where + f"files that no record names: {sorted(stray)}")
        self.files_met["named"] += len(named)
        self.files_met["kept"] += len(kept)
        self.check_jobs(records, service, process, where)
        for record in records.values():
            if record["state"] == "expired" and not truth.output_was_cut:
                raise Violation(where + f"{record['custom_id']} was written off, and its service forgot nothing")
            if record["retry_count"] > process.settings.retries + truth.asked.get(record["custom_id"], 0):
                raise Violation(where + f"{record['custom_id']} was tried {record['retry_count'] + 1} times")

    def check_cancels(self, records: dict[str, dict], truth: Truth, process: Process, where: str) -> None:
        for key, posts in truth.heard.items():
            if len(process.service.posts.get(key, ())) != posts:
                raise Violation(where + f"{key} was to end, which was in hand, and was POSTed all the same")
        for key in truth.cancelled:
            if records[key]["state"] != "cancelled":
                raise Violation(where + f"{key} was cancelled, acknowledged, and ended {records[key]['state']}")
        for key, record in records.items():
            canary = f"payload of <{key}>".encode()
            paths = (JOURNAL, OUTPUT, *shelf(process.paper))
            where_it_may_not_be = [process.paper.names[path].durable for path in paths]
            if process.repeats_ids:  # another row may have it
                where_it_may_not_be = [orjson.dumps(record)]
            if record["state"] == "cancelled" and any(canary in data for data in where_it_may_not_be):
                raise Violation(where + f"the payload of {key}, which is cancelled, reached a file")

    def check_jobs(self, records: dict[str, dict], service: Service, process: Process, where: str) -> None:
        journal = process.paper.names[JOURNAL].durable
        for job in service.jobs.values():
            record = records[job.key]
            heard = record["state"] == "unconfirmed" or "submit_unanswered" in record["warnings"]
            known = record["job_id"] == job.id or any(attempt["job_id"] == job.id for attempt in record["attempts"])
            if not (heard or known) or (
                not heard and f'"{job.id}"'.encode() not in journal and record["job_id"] != job.id
            ):
                raise Violation(where + f"{job.id} was created and nobody knows of it: {record}")
            if record["state"] == "succeeded" and record["job_id"] == job.id and job.status(process.now) != "completed":
                raise Violation(where + f"{job.id} succeeded, says its record, and it did not")
        for key, record in records.items():
            self.check_whose(key, record, service, where)
        for key, posts in service.posts.items():
            created = [service.jobs[post.job] for post in posts if post.told == CREATED and post.job]
            for job in created[:-1]:
                if not service.may_try_again(job, key):
                    raise Violation(where + f"{key} was paid for again although {job.id} ended {job.ends}")

    def check_whose(self, key: str, record: dict, service: Service, where: str) -> None:
        """What a record says is of the row's own jobs, and of no other row's."""
        error, text = record["error"] or {}, record["output_text"]
        jobs = [
            service.jobs[job_id]
            for job_id in (record["job_id"], *(one["job_id"] for one in record["attempts"]))
            if job_id
        ]
        whose = {service.body_of(job.key) for job in jobs} | {service.body_of(key)}
        if len(whose) > 1 or text not in (None, *(f"payload of <{job.key}>" for job in jobs[:1])):
            raise Violation(where + f"{key} has another row's result: {record}")
        if not jobs or error.get("source") != "service":
            return
        job = jobs[0]
        if error["code"] in SAID and error["code"] != job.ends:
            raise Violation(where + f"{key} has another row's failure: {job} {record}")
        if record["state"] == "cancelled" and job.cancelled_at is None:
            raise Violation(where + f"{key} has another row's cancel: {job} {record}")
