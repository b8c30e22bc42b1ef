"""An observer that exports a run to OpenTelemetry: a span for each job, and the run's counts as metrics.

    from batchrun.otel import OpenTelemetry
    records = await batchrun.run(rows, observers=OpenTelemetry())

Needs `pip install 'batchrun-jobs[otel]'`, which is the API alone: where no SDK is set up this costs next to nothing and
exports nothing. Names follow the semantic conventions of GenAI where they have one, else they begin with `batchrun.`.
No prompt, no output and no message leaves the process by it.

| name | what |
|---|---|
| span `batchrun.job` | from the submit to the end of a row's last job; a child of the span in which the observer was made |
| `batchrun.records` | records, by `batchrun.state` and `error.type` (the error code) |
| `batchrun.attempts` | earlier jobs of these rows: what was paid again |
| `batchrun.submits`, `batchrun.polls` | requests |
| `gen_ai.client.token.usage` | tokens per row, by `gen_ai.token.type` |
| `gen_ai.client.operation.duration` | seconds from submit to end |
| `batchrun.queued` | seconds from submit to the first poll that found it running |
| `batchrun.lag` | seconds from a job's end on the service (`completed_at`) to the poll that saw it |
| `batchrun.in_flight` | jobs in flight |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchrun.core.status.snapshot import Snapshot
from batchrun.results.record import Record
from batchrun.version import install

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ImportError as error:
    missing = f"batchrun.otel needs OpenTelemetry's API: {install('otel')}"
    raise ImportError(missing) from error

_NANOSECONDS = 1_000_000_000


class OpenTelemetry:
    """Exports a run to OpenTelemetry; make a new one for each run. The global providers are used unless given."""

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        attributes: Mapping[str, str | int | float | bool] | None = None,
    ) -> None:
        self._tracer = trace.get_tracer("batchrun", tracer_provider=tracer_provider)
        meter = metrics.get_meter("batchrun", meter_provider=meter_provider)
        self._parent = context.get_current()
        self._own = dict(attributes or {})
        self._last: dict[str, int] = {}
        self._records = meter.create_counter("batchrun.records", "{record}", "Records by state")
        self._attempts = meter.create_counter("batchrun.attempts", "{job}", "Jobs that were retried")
        self._submits = meter.create_counter("batchrun.submits", "{request}", "POSTs that got a response or were lost")
        self._polls = meter.create_counter("batchrun.polls", "{request}", "Polls of jobs")
        self._tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}", "Tokens of a row")
        self._took = meter.create_histogram("gen_ai.client.operation.duration", "s", "From submit to end")
        self._queued = meter.create_histogram("batchrun.queued", "s", "From submit to start")
        self._lag = meter.create_histogram(
            "batchrun.lag", "s", "From a job's end on the service to the poll that saw it"
        )
        self._in_flight = meter.create_up_down_counter("batchrun.in_flight", "{job}", "Jobs in flight")

    def progressed(self, stats: Snapshot) -> None:
        """The counts, as differences since the last time."""
        for counter, name in ((self._submits, "submits"), (self._polls, "polls"), (self._in_flight, "in_flight")):
            now = getattr(stats, name)
            if more := now - self._last.get(name, 0):
                counter.add(more, self._own)
                self._last[name] = now

    def recorded(self, record: Record) -> None:
        """The span of a row, and its counts."""
        error = record.error
        attributes: dict[str, Any] = {**self._own, "batchrun.state": record.state.value}
        if record.model is not None:
            attributes["gen_ai.request.model"] = record.model
        if error is not None:
            attributes["error.type"] = error.code or error.kind
        self._records.add(1, attributes)
        if record.retry_count:
            self._attempts.add(record.retry_count, attributes)
        usage = record.usage
        for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if count is not None:
                self._tokens.record(count, {**attributes, "gen_ai.token.type": kind})
        begun, ended = record.submitted_at, record.finished_at
        if begun is None or ended is None:  # nothing was sent
            return
        self._took.record(max(0.0, (ended - begun).total_seconds()), attributes)
        if record.queued_s is not None:
            self._queued.record(record.queued_s, attributes)
        body = record.body
        completed = body.get("completed_at") if isinstance(body, dict) else None
        if isinstance(completed, int | float) and not isinstance(completed, bool):
            self._lag.record(max(0.0, ended.timestamp() - completed), attributes)
        span = self._tracer.start_span(
            "batchrun.job",
            self._parent,
            SpanKind.CLIENT,
            {**attributes, **_of_span(record)},
            start_time=int(begun.timestamp() * _NANOSECONDS),
        )
        if not record.ok:
            span.set_status(Status(StatusCode.ERROR, record.state.value))
        span.end(int(ended.timestamp() * _NANOSECONDS))

    def halted(self, reason: str, message: str) -> None:
        """A halt is a span of no duration, as there is no current span for an event."""
        span = self._tracer.start_span("batchrun.halt", self._parent, attributes={**self._own, "batchrun.halt": reason})
        span.set_status(Status(StatusCode.ERROR, reason))
        span.end()

    def noted(self, text: str) -> None:
        """For people."""


def _of_span(record: Record) -> dict[str, str | int]:
    """Attributes that identify one row, too many values for a metric."""
    usage = record.usage
    attributes = {
        "batchrun.key": record.key,
        "gen_ai.response.id": record.job_id,
        "batchrun.polls": record.polls,
        "batchrun.attempts": record.retry_count,
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
    }
    return {name: value for name, value in attributes.items() if value is not None}
