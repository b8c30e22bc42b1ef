"""The benchmark of the journal runs, and prints what it says it prints; its figures are for quiet machines."""

import json

from benchmarks import journal, results


def test_it_measures_and_records_every_result(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(journal, "SECONDS", 0.02)
    monkeypatch.setattr(journal, "BUSY_SECONDS", 0.1)
    monkeypatch.setattr(journal, "ROWS", 250)
    monkeypatch.setattr(journal.sys, "argv", ["journal.py", str(tmp_path)])
    monkeypatch.setattr(results, "HERE", tmp_path)
    journal.main()
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert lines == capsys.readouterr().out.splitlines()
    read = [json.loads(line) for line in lines]
    assert len(read) == 19
    assert all({"name", "value", "unit", "ratio_to", "commit", "python", "machine"} <= found.keys() for found in read)
    names = {found["name"] for found in read}
    assert {found["ratio_to"] for found in read} - {None} <= names
    assert [path.name for path in tmp_path.iterdir()] == ["results.jsonl"]
