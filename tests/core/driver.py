"""Drives an engine in virtual time, for tables of exact times: syncs are instant, answers come when scripted."""

import random
from binascii import a2b_base64
from collections import Counter
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from heapq import heappop, heappush

import orjson

from batchrun.core.engine.engine import Engine
from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import About, Row
from batchrun.core.journal.fold import JournaledRow
from batchrun.core.records.artifacts import Stored, base64_of
from batchrun.core.responses.http import Answer, Cause, Failure
from batchrun.core.responses.verdict import Accepted, Ambiguous, JobReport, read_cancel, read_poll, read_submit
from batchrun.core.settings.settings import Settings
from batchrun.core.taxonomy.warning_words import meaning_of_warning
from tests.core.invariants import check_invariants

Reply = Answer | Failure


def answer(status: int, body: object = None, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else orjson.dumps(body or {})
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def error(status: int, code: str, message: str = "scripted") -> Answer:
    return answer(status, {"error": {"code": code, "message": message}})


DROPPED = Failure(sent=True, cause=Cause.DROPPED, message="dropped")
UNSENT = Failure(sent=False, cause=Cause.CONNECT, message="connection refused")


class Driver:
    """`submit(key, n)` and `poll(job_id, n)` script the n-th answer to a row or job, from 0; by default jobs complete at their third poll.

    Files are written and removed within `storing` seconds each, into `files`; `store(name)` tells what goes wrong.
    """

    def __init__(
        self,
        rows: int | list[Row] = 0,
        *,
        submit: Callable[[str, int], Reply] | None = None,
        poll: Callable[[str, int], Reply] | None = None,
        cancel: Callable[[str, int], Reply] | None = None,
        latency: float = 0.1,
        chance: Callable[[], float] | None = None,
        input_ends: bool = True,
        start: bool = True,
        collecting: bool = False,
        storing: float = 0.5,
        store: Callable[[str], str | None] | None = None,
        repeats_ids: bool = False,
        keeps_keys: float = 0.0,
        **settings,
    ) -> None:
        self.now = 0.0
        self.rows = [Row(f"row-{i}") for i in range(rows)] if isinstance(rows, int) else rows
        self.script = {
            "submit": submit or self.accept,
            "poll": poll or self.third_time,
            "cancel": cancel or self.cancelled,
        }
        self.latency = latency
        self.storing = storing
        self.store_error = store or (lambda name: None)
        self.files: dict[str, bytes] = {}
        self.input_ends = input_ends
        self.engine = Engine(
            Settings.of({"pacing": "backoff", **settings}),
            run_id="run",
            now=0.0,
            epoch=1_000_000.0,
            chance=chance or random.Random(7).random,
            collecting=collecting,
            repeats_ids=repeats_ids,
            keeps_keys=keeps_keys,
        )
        self.sent: dict[str, list[tuple[float, str]]] = {"submit": [], "poll": [], "cancel": []}
        self.told: list[tuple[float, m.Halt]] = []
        self.entries: list[dict] = []
        self.records: dict[str, dict] = {}
        self.noted: list[str] = []
        self.kept: list[m.KeepUnreadable] = []
        self.outcome: m.Outcome | None = None
        self.instructions: list[m.Instruction] = []
        self._queue: list = []
        self._count = self._read = 0
        self._wake_at = 0.0  # the last wish replaces those before it
        self._given: Counter = Counter()
        self._asked: Counter = Counter()
        if start:
            self.feed(m.TimerFired())

    # --- default script ---

    def accept(self, key: str, n: int) -> Answer:
        return answer(200, {"id": f"job_{key}_{n}", "status": "queued"})

    def third_time(self, job_id: str, n: int) -> Answer:
        output = [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}]
        return answer(
            200,
            {"id": job_id, "status": "in_progress"}
            if n < 2
            else {"id": job_id, "status": "completed", "output": output},
        )

    def cancelled(self, job_id: str, n: int) -> Answer:
        return answer(200, {"id": job_id, "status": "cancelled"})

    # --- time ---

    def at(self, when: float, what: Callable[[], m.Event | None] | m.Event) -> None:
        self._count += 1
        heappush(self._queue, (when, self._count, what if callable(what) else lambda: what))

    def run(self, until: float = float("inf")) -> "Driver":
        """Let everything happen that happens before `until`, or to the end."""
        while self._queue and self._queue[0][0] <= until and self.outcome is None:
            self.now, _, what = heappop(self._queue)
            event = what()
            if event is not None:
                self.feed(event)
        if until < float("inf"):
            self.now = until
        check_invariants(self.engine)
        return self

    def feed(self, event: m.Event) -> list[m.Instruction]:
        """Hand an event over and carry out what it brings; a sync is done by the time it returns."""
        instructions = self.engine.handle(event, self.now)
        self.instructions += instructions
        tapes = set()
        for instruction in instructions:
            match instruction:
                case m.Append(line, lazy):
                    self.entries.append(orjson.loads(line[9:]))
                    self._given[m.BatchFile.JOURNAL] += 1
                    tapes |= set() if lazy else {m.BatchFile.JOURNAL}
                case m.Emit(line):
                    record = orjson.loads(line)
                    assert record["custom_id"] not in self.records, "a second record"
                    unexplained = [one for one in record["warnings"] if meaning_of_warning(one) is None]
                    assert not unexplained, "`batchrun explain` knows every warning"
                    self.records[record["custom_id"]] = record
                    self._given[m.BatchFile.OUTPUT] += 1
                    tapes.add(m.BatchFile.OUTPUT)
                case m.Submit(job, attempt):
                    self._exchange(
                        "submit", job.key, lambda reply, job=job, attempt=attempt: self._submitted(job, attempt, reply)
                    )
                case m.Poll(job, attempt, dated):
                    self._exchange("poll", job.job_id, partial(self._polled, job, attempt, dated))
                case m.Cancel(job, attempt):
                    self._exchange(
                        "cancel",
                        job.job_id,
                        lambda reply, job=job, attempt=attempt: m.CancelAnswered(
                            job, attempt, read_cancel(reply, 0.0, job.job_id)
                        ),
                    )
                case m.StoreArtifacts(job, attempt):
                    self.at(self.now + self.storing, partial(self._stored, instruction))
                case m.DiscardArtifacts(job, attempt):
                    self.at(self.now + self.storing, partial(self._discarded, instruction))
                case m.ReadRows(rows):
                    for row in self.rows[self._read : self._read + rows]:
                        self.at(self.now, m.RowRead(row))
                    self._read += rows
                    if self._read >= len(self.rows) and self.input_ends:
                        self.at(self.now, m.InputEnded())
                case m.Wake(at):
                    assert at > self.now or self.now == 0.0, "a wake in the past would spin"
                    self._wake_at = at
                    self.at(at, lambda at=at: m.TimerFired() if at == self._wake_at else None)
                case m.Halt():
                    self.told.append((self.now, instruction))
                case m.Note(text):
                    self.noted.append(text)
                case m.KeepUnreadable():
                    self.kept.append(instruction)
                case m.Finish(outcome):
                    self.outcome = outcome
        for tape in tapes:
            self.feed(m.Synced(tape, self._given[tape]))
        return instructions

    def _stored(self, order: m.StoreArtifacts) -> m.Event:
        stored: list[Stored | None] = []
        for one in order.found:
            wrong = self.store_error(one.name)
            if wrong is not None:
                return m.ArtifactsFailed(order.job, order.attempt, wrong)
            try:
                data = a2b_base64(base64_of(order.body, one.start, one.end), strict_mode=True)
            except ValueError:
                stored.append(None)
            else:
                self.files[one.name] = data
                stored.append(Stored(len(data), sha256(data).hexdigest()))
        return m.ArtifactsStored(order.job, order.attempt, tuple(stored))

    def _discarded(self, order: m.DiscardArtifacts) -> m.Event:
        for name in order.names:
            wrong = self.store_error(name)
            if wrong is not None:
                return m.ArtifactsFailed(order.job, order.attempt, wrong)
            self.files.pop(name, None)
        return m.ArtifactsDiscarded(order.job, order.attempt, order.names)

    def _exchange(self, kind: str, name: str, event_of: Callable[[Reply], m.Event]) -> None:
        self.sent[kind].append((self.now, name))
        n = self._asked[kind, name]
        self._asked[kind, name] += 1
        self.at(self.now + self.latency, lambda: event_of(self.script[kind](name, n)))

    @staticmethod
    def _submitted(job, attempt, reply) -> m.Event:
        verdict = read_submit(reply, 0.0)
        if isinstance(verdict, Accepted):
            return m.SubmitAccepted(job, attempt, verdict)
        return (
            m.SubmitFailed(job, attempt, verdict)
            if isinstance(verdict, Ambiguous)
            else m.SubmitRefused(job, attempt, verdict)
        )

    @staticmethod
    def _polled(job, attempt, dated, reply) -> m.Event:
        verdict = read_poll(reply, 0.0, job.job_id, dated=dated)
        return (
            m.PollAnswered(job, attempt, verdict)
            if isinstance(verdict, JobReport)
            else m.PollFailed(job, attempt, verdict)
        )

    # --- looked at ---

    def recover(self, count: int, age: float = 60.0, **changes) -> "Driver":
        """Begin with `count` jobs that an earlier run submitted `age` seconds ago."""
        rows = []
        for i in range(count):
            journaled = JournaledRow()
            journaled.job_id, journaled.submitted_at = f"job_old-{i}", 1_000_000.0 - age
            for name, value in changes.items():
                setattr(journaled, name, value)
            rows.append((Row(f"old-{i}"), journaled))
        self.take_up(rows, {}, count, 0, 0, 0)
        return self

    def take_up(self, rows: list[tuple[Row, JournaledRow]], *facts, **more) -> None:
        """Begin with what an earlier run left."""
        self.feed(m.Recovered(*facts, **more))
        self.feed(m.RowsTakenUp(rows))

    def times(self, kind: str, name: str | None = None) -> list[float]:
        return [round(at, 6) for at, of in self.sent[kind] if name in (None, of)]

    def states(self) -> Counter:
        return Counter(record["state"] for record in self.records.values())

    def tags(self, key: str) -> list[str]:
        """The journal's entries for a row, by tag."""
        return [tag for entry in self.entries for tag, values in entry.items() if values.get("key") == key]


def heavy(key: str, tokens: int) -> Row:
    return Row(key, About(tokens=tokens))
