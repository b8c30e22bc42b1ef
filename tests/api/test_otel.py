"""What OpenTelemetry is told, by its own SDK in memory."""

import pytest

sdk = pytest.importorskip("opentelemetry.sdk.trace")

import batchrun  # noqa: E402
from batchrun.otel import OpenTelemetry  # noqa: E402
from tests.api.stage import on, play, rows  # noqa: E402


@pytest.fixture
def watched():
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = sdk.TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    yield tracers, meters, exporter, reader
    meters.shutdown()
    tracers.shutdown()


def numbers(reader):
    """Metric name -> {(attribute values that are asked for): sum or count}."""
    found = {}
    for of_resource in reader.get_metrics_data().resource_metrics:
        for scope in of_resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    value = point.value if hasattr(point, "value") else point.count
                    found.setdefault(metric.name, []).append((dict(point.attributes), value))
    return found


def test_a_span_for_each_job_and_the_runs_counts(watched):
    tracers, meters, exporter, reader = watched
    given = [
        *rows(3),
        {"custom_id": "again", "prompt": "[[fail server_error 1]] x"},
        {"custom_id": "bad", "prompt": "[[fail invalid_prompt]] secret words"},
        {"custom_id": "never", "foo": 1},
    ]

    async def scene(simulator):
        with tracers.get_tracer("mine").start_as_current_span("my program") as mine:
            observer = OpenTelemetry(tracer_provider=tracers, meter_provider=meters, attributes={"team": "blue"})
            records = await batchrun.run(given, observers=observer, **on(simulator, skip_bad=True, retries=1))
        return records, mine, simulator.statistics.polls

    records, mine, polls = play(scene)
    spans = {
        span.attributes["batchrun.key"]: span for span in exporter.get_finished_spans() if span.name == "batchrun.job"
    }
    assert spans.keys() == {"row-0", "row-1", "row-2", "again", "bad"}, "none for a row that was never sent"
    for key, span in spans.items():
        record = records[key]
        assert span.parent.span_id == mine.get_span_context().span_id
        assert span.attributes["gen_ai.response.id"] == record.job_id
        assert span.attributes["team"] == "blue"
        assert abs(span.start_time / 1e9 - record.submitted_at.timestamp()) < 0.001
        assert span.end_time >= span.start_time
        assert span.status.is_ok is record.ok
    assert spans["bad"].attributes["error.type"] == "invalid_prompt"
    assert spans["again"].attributes["batchrun.attempts"] == 1
    assert "secret" not in repr([(span.attributes, span.status.description) for span in spans.values()])

    told = numbers(reader)
    states = {}
    for attributes, value in told["batchrun.records"]:
        states[attributes["batchrun.state"]] = states.get(attributes["batchrun.state"], 0) + value
    assert states == {"succeeded": 4, "rejected": 2}
    assert sum(value for _, value in told["batchrun.attempts"]) == 1
    assert sum(value for _, value in told["batchrun.submits"]) == 6
    assert sum(value for _, value in told["batchrun.polls"]) == polls
    assert sum(value for _, value in told.get("batchrun.in_flight", [])) == 0
    assert sum(value for _, value in told["batchrun.lag"]) == 4
    assert {attributes["gen_ai.token.type"] for attributes, _ in told["gen_ai.client.token.usage"]} == {
        "input",
        "output",
    }
    assert not any("batchrun.key" in attributes for points in told.values() for attributes, _ in points)


def test_a_halt_is_a_span_of_its_own(watched):
    tracers, meters, exporter, _ = watched

    async def scene(simulator):
        with pytest.raises(batchrun.Halted):
            await batchrun.run(
                rows(3), observers=OpenTelemetry(tracer_provider=tracers, meter_provider=meters), **on(simulator)
            )

    play(scene, "[limits]\nquota = 0\n")
    halts = [span for span in exporter.get_finished_spans() if span.name == "batchrun.halt"]
    assert [span.attributes["batchrun.halt"] for span in halts] == ["quota"]
