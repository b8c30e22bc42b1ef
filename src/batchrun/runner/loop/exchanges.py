"""How an instruction becomes an exchange, and its answer an event: for submits, polls and cancels."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

import anyio
import anyio.lowlevel
from aiolimiter import AsyncLimiter
from anyio.abc import TaskGroup

from batchrun.core.jobs.messages import (
    Cancel,
    CancelAnswered,
    Event,
    Poll,
    PollAnswered,
    PollFailed,
    Submit,
    SubmitAccepted,
    SubmitFailed,
    SubmitRefused,
)  # fmt: skip
from batchrun.core.responses.error import our_problem
from batchrun.core.responses.http import Answer, Failure, Request
from batchrun.core.responses.outcome import Running
from batchrun.core.responses.verdict import Accepted, Ambiguous, JobReport, Refused, Unclear, in_steps
from batchrun.core.settings.settings import Settings
from batchrun.core.taxonomy.classify import rule
from batchrun.core.taxonomy.rules import StateGroup, WordField, group_of
from batchrun.core.text.readable import Text
from batchrun.edge.exchange import HttpTransport
from batchrun.edge.redaction import Redactor
from batchrun.edge.source import Checked, InputChanged
from batchrun.runner.loop.missing_endpoint import CHAT, missing_endpoint
from batchrun.services.idempotency import idempotency_key
from batchrun.services.service import Service

# --- The tasks of a run: one group for all of them, and workers that take what is due, none for each job ---
#
# There are as many workers of a kind as its exchanges need at once, which follows from rate × round trip by itself: a
# new one is started when an instruction finds no idle one, and one that stays idle for a while ends. An idle
# worker is one future of asyncio; handing over costs its result. All idle workers share one timer: one each would cost
# more than all the rest of handing over, to be cancelled nearly every time.


IDLE_FOR = 10.0

T = TypeVar("T")


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """A task group that raises what its body or a task raised first as it is: a caller writes `except Halted`."""
    first: BaseException | None = None
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as several:
        first = several
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
    if first is not None:  # outside of the handler, where the group would become its context
        raise first


class Workers(Generic[T]):
    """Carries instructions out by `work`, at most `limit` at once, the others in order; `serve` is a task of its group.

    anyio starts tasks from tasks alone and an instruction may come from a callback, so `serve` starts the workers.
    """

    def __init__(self, group: TaskGroup, work: Callable[[T], Awaitable[None]], limit: int) -> None:
        self.workers = 0
        self._group = group
        self._work = work
        self._limit = limit
        self._idle: dict[asyncio.Future[T | None], float] = {}  # by the time since when, the longest first
        self._timer: asyncio.TimerHandle | None = None
        self._queue: deque[T] = deque()  # for the next worker that is free
        self._unstarted: deque[T] = deque()  # each for a worker of its own
        self._wanted = asyncio.Event()

    def put(self, instruction: T) -> None:
        """Have `instruction` carried out as soon as a worker is free."""
        while self._idle:
            worker, _ = self._idle.popitem()  # the last one that became idle: the others may end
            if not worker.done():
                worker.set_result(instruction)
                return
        if self.workers < self._limit:
            self.workers += 1
            self._unstarted.append(instruction)
            self._wanted.set()
        else:
            self._queue.append(instruction)

    async def serve(self) -> None:
        """Start workers as they are needed, until cancelled."""
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                while self._unstarted:
                    self._group.start_soon(self._live, self._unstarted.popleft())
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def _live(self, instruction: T | None) -> None:
        loop = asyncio.get_running_loop()
        try:
            while instruction is not None:
                await self._work(instruction)
                if self._queue:
                    instruction = self._queue.popleft()
                    continue
                idle: asyncio.Future[T | None] = loop.create_future()
                self._idle[idle] = loop.time()
                if self._timer is None:
                    self._timer = loop.call_later(IDLE_FOR, self._dismiss, loop)
                instruction = await idle
        finally:
            self.workers -= 1

    def _dismiss(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the workers that were idle for so long, and come back for the next of them."""
        self._timer = None
        until = loop.time() - IDLE_FOR
        while self._idle:
            idle, since = next(iter(self._idle.items()))
            if since > until:
                self._timer = loop.call_at(since + IDLE_FOR, self._dismiss, loop)
                return
            del self._idle[idle]
            if not idle.done():
                idle.set_result(None)


class Keys(Protocol):
    """What renews an API key that was refused."""

    async def renewed_service(self, service: Service) -> Service: ...


def submit_ceiling(rpm: float) -> AsyncLimiter:
    """A ceiling of `rpm` submits a minute, right before they are sent.

    The engine's own rate is exact when it lets a row go; between that and the POST lie a sync of the journal and a
    loop that may be late, after which several would leave at once. So the ceiling holds back all beyond a
    twentieth of a second's worth.
    """
    rate = rpm / 60
    burst = max(1.0, rate / 20)
    return AsyncLimiter(burst, burst / rate)


class Exchanges:
    """Carries out one instruction at a time for each worker that calls; its end comes back by `feed`.

    `run_id` is that of the batch; `ceiling` is the rate of submits that batches of one process may share; `wall` gives the time of day;
    `input_is_gone` is called when a row's line is not what was checked, `noted` with what a person should know.
    """

    def __init__(
        self,
        service: Service,
        wire: HttpTransport,
        source: Checked | None,
        settings: Settings,
        *,
        feed: Callable[[Event], None],
        wall: Callable[[], float],
        input_is_gone: Callable[[InputChanged], None],
        noted: Callable[[Text], None],
        keys: Keys | None = None,
        ceiling: AsyncLimiter | None = None,
        redactor: Redactor | None = None,
        run_id: str = "",
    ) -> None:
        self._service = service
        self._wire = wire
        self._source = source
        self._settings = settings
        self._feed = feed
        self._wall = wall
        self._input_is_gone = input_is_gone
        self._noted = noted
        self._keys = keys
        self._ceiling = ceiling
        self._known_paths: set[str] = set()  # where a submit was accepted, or was told to find no endpoint
        self._redactor = redactor or Redactor()
        self._run_id = run_id
        self._in_background = {one.path for one in service.profile.endpoints if one.background}

    async def submit(self, order: Submit) -> None:
        job, attempt = order
        assert self._source is not None, "a row without an input has no body to send"
        try:
            ordinal = self._source.ordinal_of(job.key)  # reads the line, and may be the first to find it changed
            assert ordinal is not None, "the source gave this row"
            prepared = self._source.body(ordinal)
        except InputChanged as error:
            unsent = Refused(
                our_problem("connection_failed", str(error)), rule(WordField.TOOL, "connection_failed"), again=True
            )
            self._input_is_gone(error)
            self._feed(SubmitRefused(job, attempt, unsent))
            return
        if self._ceiling is not None:
            await self._ceiling.acquire()
        path = prepared.path
        key = None
        if self._service.profile.idempotency is not None:
            key = idempotency_key(self._run_id, job.key, attempt, self._source.row_sha256(ordinal))
        answer = await self._exchange(
            lambda service: service.submit(path, prepared.body, key), self._submit_timeout(path)
        )
        verdict = await self._read(answer, lambda clean: self._service.read_submit(clean, self._wall(), path))
        if path not in self._known_paths:
            self._get_to_know(path, verdict)
        if isinstance(verdict, Accepted):
            self._feed(SubmitAccepted(job, attempt, verdict, prepared.warnings))
        elif isinstance(verdict, Refused):
            self._feed(SubmitRefused(job, attempt, verdict))
        else:
            assert isinstance(verdict, Ambiguous)
            self._feed(SubmitFailed(job, attempt, verdict))

    def _get_to_know(self, path: str, verdict: Accepted | Refused | Ambiguous) -> None:
        """Tell once for each endpoint that the service seems not to have it, unless it has accepted a row there."""
        if not isinstance(verdict, Accepted):
            has_chat = any(one.path.endswith(CHAT) for one in self._service.profile.endpoints)
            missing = missing_endpoint(verdict.problem, verdict.rule, path, self._service.base.path, has_chat=has_chat)
            if missing is None:
                return
            self._noted(missing)
        self._known_paths.add(path)

    async def poll(self, order: Poll) -> None:
        job, attempt, dated = order
        job_id = job.job_id
        assert job_id is not None
        if self._keys is None:  # the hot path: nothing between worker and transport that a poll does without
            answer = await self._wire.exchange(self._service.poll(job_id), self._settings.poll_timeout)
        else:
            answer = await self._exchange(lambda service: service.poll(job_id), self._settings.poll_timeout)
        read = self._service.read_dated_poll if dated else self._service.read_poll
        verdict = read(answer, self._wall(), job_id)
        if isinstance(verdict, JobReport) and not verdict.body:  # it runs, and nothing of the response is kept
            self._feed(PollAnswered(job, attempt, verdict))
            return
        verdict = await self._read(answer, lambda clean: read(clean, self._wall(), job_id), verdict)
        if isinstance(verdict, JobReport):
            self._feed(PollAnswered(job, attempt, verdict))
        else:
            assert isinstance(verdict, Unclear)
            self._feed(PollFailed(job, attempt, verdict))

    async def cancel(self, order: Cancel) -> None:
        job, attempt = order
        job_id = job.job_id
        assert job_id is not None
        if self._service.can_cancel:
            answer = await self._exchange(lambda service: service.cancel(job_id), self._settings.cancel_timeout)
            verdict = await self._read(answer, lambda clean: self._service.read_cancel(clean, self._wall(), job_id))
        else:  # a poll is all that there is
            answer = await self._exchange(lambda service: service.poll(job_id), self._settings.cancel_timeout)
            verdict = await self._read(answer, lambda clean: self._service.read_poll(clean, self._wall(), job_id))
        self._feed(CancelAnswered(job, attempt, verdict))

    async def _exchange(self, request: Callable[[Service], Request], timeout: float) -> Answer | Failure:  # noqa: ASYNC109 - the transport's own timeout
        """One exchange; after a 401, which created nothing, once more with a renewed key where there is one."""
        service = self._service
        answer = await self._wire.exchange(request(service), timeout)
        if self._keys is not None and isinstance(answer, Answer) and answer.status == 401:
            self._service = await self._keys.renewed_service(service)
            if self._service is not service:
                answer = await self._wire.exchange(request(self._service), timeout)
        return answer

    async def _read(
        self, answer: Answer | Failure, read: Callable[[Answer | Failure], T], verdict: T | None = None
    ) -> T:
        """What `read` makes of `answer`, `verdict` if it has read it already, without the secrets that its escapes hide.

        A long body that is not strict JSON is read here, with pauses. All that is kept or shown of a response goes through here, but polls of running jobs, of which nothing is.
        """
        verdict = read(answer) if verdict is None else verdict
        if isinstance(answer, Failure) or _is_known_to_run(verdict):
            return verdict
        clean = await self._redactor.hidden(answer)
        steps = in_steps(clean, read, verdict if clean is answer else read(clean))
        while True:
            try:
                next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
            await anyio.lowlevel.cancel_shielded_checkpoint()  # the response is here, and may be paid for

    def _submit_timeout(self, path: str) -> float:
        return self._settings.submit_timeout if path in self._in_background else self._settings.answer_timeout


def _is_known_to_run(verdict: object) -> bool:
    """Whether it is a job that runs, in a word that we know: nothing else of the response is kept."""
    if not isinstance(verdict, JobReport) or not isinstance(running := verdict.outcome, Running):
        return False
    return (
        running.unclear is None
        and verdict.other_id is None
        and group_of(running.status) in (StateGroup.IN_PROGRESS, StateGroup.CANCELLING)
    )
