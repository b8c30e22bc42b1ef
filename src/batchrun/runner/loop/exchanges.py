"""How an instruction becomes an exchange, and its answer an event: for submits, polls and cancels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from aiolimiter import AsyncLimiter

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
from batchrun.core.responses.verdict import Accepted, Ambiguous, JobReport, Refused, Unclear
from batchrun.core.settings.settings import Settings
from batchrun.core.taxonomy.classify import rule
from batchrun.core.taxonomy.rules import WordField
from batchrun.edge.exchange import HttpTransport
from batchrun.edge.source import Checked, InputChanged
from batchrun.services.service import Service


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

    `ceiling` is the rate of submits that batches of one process may share; `wall` gives the time of day;
    `input_is_gone` is called when a row's line is not what was checked.
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
        keys: Keys | None = None,
        ceiling: AsyncLimiter | None = None,
    ) -> None:
        self._service = service
        self._wire = wire
        self._source = source
        self._settings = settings
        self._feed = feed
        self._wall = wall
        self._input_is_gone = input_is_gone
        self._keys = keys
        self._ceiling = ceiling
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
        answer = await self._exchange(lambda service: service.submit(path, prepared.body), self._submit_timeout(path))
        verdict = self._service.read_submit(answer, self._wall(), path)
        if isinstance(verdict, Accepted):
            self._feed(SubmitAccepted(job, attempt, verdict, prepared.warnings))
        elif isinstance(verdict, Refused):
            self._feed(SubmitRefused(job, attempt, verdict))
        else:
            assert isinstance(verdict, Ambiguous)
            self._feed(SubmitFailed(job, attempt, verdict))

    async def poll(self, order: Poll) -> None:
        job, attempt = order
        job_id = job.job_id
        assert job_id is not None
        if self._keys is None:  # the hot path: nothing between worker and transport that a poll does without
            answer = await self._wire.exchange(self._service.poll(job_id), self._settings.poll_timeout)
        else:
            answer = await self._exchange(lambda service: service.poll(job_id), self._settings.poll_timeout)
        verdict = self._service.read_poll(answer, self._wall(), job_id)
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
            verdict = self._service.read_cancel(answer, self._wall(), job_id)
        else:  # a poll is all that there is
            answer = await self._exchange(lambda service: service.poll(job_id), self._settings.cancel_timeout)
            verdict = self._service.read_poll(answer, self._wall(), job_id)
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

    def _submit_timeout(self, path: str) -> float:
        return self._settings.submit_timeout if path in self._in_background else self._settings.answer_timeout
