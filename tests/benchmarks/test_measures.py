"""The benchmarks of speed and scale run and say what they measured; their figures are for quiet machines."""

import json
import xml.etree.ElementTree as ET

import pytest

from batchrun.core.responses.verdict import is_safe_id
from benchmarks import charts, end_to_end, polling, results, scale, services, stub, table

pytestmark = pytest.mark.timeout(300)  # whole batches, killed and taken up again
NAMED = {"name", "value", "unit", "ratio_to", "commit", "python", "machine", "date"}


@pytest.fixture
def found(tmp_path, monkeypatch):
    """The results so far, by name."""
    monkeypatch.setattr(results, "HERE", tmp_path)
    monkeypatch.setenv("BENCHMARK_WARM_UP", "0.1")

    def read():
        lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
        assert all(line.keys() >= NAMED for line in lines)
        names = {line["name"] for line in lines}
        assert {line["ratio_to"] for line in lines} - {None} <= names
        return {line["name"]: line for line in lines}

    return read


def test_the_lean_service_names_jobs_as_services_do_and_answers_720_bytes():
    job_id = stub.id_of(7, 1_800_000_000.0)
    assert is_safe_id(job_id)
    assert int(job_id[5:17], 16) == 1_800_000_000_000
    assert len(stub.in_progress(job_id)) == stub.SIZE == 720


def test_jobs_in_flight_are_put_there_measured_killed_and_taken_up_again(found):
    scale.main(["--sizes", "300", "--rate", "600", "--seconds", "0.2"])
    measured = {name.removesuffix(", 300 jobs in flight"): one["value"] for name, one in found().items()}
    assert measured["scale: memory of a job"] > 100
    assert 0 < measured["scale: lateness of a look, p50"] <= measured["scale: lateness of a look, p99"]
    assert measured["scale: resumed after kill -9"] > 0
    assert "300 jobs in flight" in "\n".join(table.lines())


def test_a_journal_that_was_written_directly_is_taken_up_like_one_that_a_run_left(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "SENT_AT_MOST", 0)
    with services.stub() as (url, _):
        batch = scale.Batch(str(tmp_path), url, 250)
        assert batch.put_in_flight()["outcome"] == "detached"
        told = batch.watch(500, 0.3)
    assert (told["watched"], told["done"]) == (250, 0)


def test_a_batch_is_measured_to_its_last_record_and_drawn(found, tmp_path, monkeypatch):
    quick = {"poll_min": 0.1, "poll_max": 0.1}
    monkeypatch.setattr(end_to_end, "MEDIAN", 0.2)
    monkeypatch.setattr(end_to_end, "BACKOFFS", dict.fromkeys(end_to_end.BACKOFFS, quick))
    end_to_end.main(["--rows", "60"])
    measured = found()
    ideal = measured["end to end: ideal makespan"]["value"]
    for name in end_to_end.BACKOFFS:
        assert measured[f"end to end: makespan, {name}"]["value"] > ideal
        assert measured[f"end to end: looks a job, {name}"]["value"] >= 1
        assert measured[f"end to end: lag of a record, {name}"]["value"] > 0
    drawn = charts.draw(tmp_path / "charts")
    assert [path.stem for path in drawn] == ["lag"]
    assert ET.parse(drawn[0]).getroot().tag.endswith("svg")
    assert f"ideal {ideal:.1f} s" in "\n".join(table.lines())


def test_the_ideal_is_what_the_places_allow():
    assert end_to_end.ideal([3.0, 1.0, 1.0, 1.0], 2) == 3.0
    assert end_to_end.ideal([1.0, 1.0, 1.0], 1) == 3.0


def test_clients_are_asked_in_turn_and_one_that_is_missing_is_left_out(found, tmp_path, monkeypatch, capfd):
    others = (("aiohttp", "asyncio", "aiohttp", "aiohttp"), ("lm-deluge", "asyncio", None, "lm-deluge"))
    monkeypatch.setattr(polling, "OTHERS", others)
    monkeypatch.setattr(polling, "OURS", (("whole runner", "asyncio"),))
    monkeypatch.setattr(polling, "JOBS", 16)
    with services.stub() as (url, _):
        polling.compare(url, 4, "4 connections", rounds=1, seconds=0.2, best=False)
    measured = found()
    if "polling: lm-deluge, asyncio, 4 connections" not in measured:
        assert "skipped: lm-deluge is not installed" in capfd.readouterr().err
    ours, theirs = (measured[f"polling: {name}, asyncio, 4 connections"] for name in ("whole runner", "aiohttp"))
    ratio = measured["polling: whole runner on asyncio against aiohttp, 4 connections"]["value"]
    assert ratio == pytest.approx(ours["value"] / theirs["value"], rel=0.01)
    assert ours["cpu_us"] > 0
