"""The benchmark runs; its figures are for quiet machines, here only their form counts."""

import json
import shutil

import pytest

from benchmarks import results, simulator


def test_the_benchmark_runs_and_records(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(results, "HERE", tmp_path)
    assert simulator.main(["1", "20000"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert all(list(line)[:7] == ["name", "value", "unit", "ratio_to", "commit", "python", "machine"] for line in lines)
    by_name = {line["name"]: line["value"] for line in lines}
    assert 0 < by_name["simulator: memory of an open job"] < 1000
    if shutil.which("wrk") is None:
        assert "skipped: wrk is not installed" in capfd.readouterr().err
        pytest.skip("wrk is not installed")
    assert by_name["simulator: polls at 100 connections"] > 0
    assert by_name["simulator: submits at 100 connections"] > 0
