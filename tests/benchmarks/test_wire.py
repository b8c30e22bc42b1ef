"""The benchmark of the HTTP transport: its clients poll, and its table and chart show what was found."""

import asyncio
import json

import pytest

from benchmarks import wire, wire_chart, wire_peers, wire_server
from tests.edge.hostile_server import HostileServer, always, answer


async def _polls(peer):
    body = wire_server.body(720)
    async with HostileServer(always(answer(200, body, content_type="application/json"))) as server:
        return await wire_peers.measure(peer, f"{server.origin}/v1/responses/small", 3, 0.05, None)


@pytest.mark.parametrize("peer", ["seam", "transport", "httpx", "httpx2", "openai"])
def test_every_client_polls(peer):
    told = asyncio.run(_polls(peer))
    assert told["polls"] > 0
    assert told["failed"] == 0


def test_answers_have_the_size_that_is_said():
    assert [len(wire_server.body(size)) for size in wire_server.SIZES.values()] == [720, 16_384]


def test_without_nginx_it_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(wire_server.shutil, "which", lambda *_args, **_options: None)
    monkeypatch.setattr(wire.sys, "argv", ["wire.py", "--quick"])
    monkeypatch.setattr(wire.resource, "setrlimit", lambda *_limits: None)
    assert wire.main() == 0
    assert "skipped: nginx is not installed" in capsys.readouterr().err


def test_every_setting_has_a_name_of_its_own_and_the_table_knows_its_columns():
    names = [setting.name for setting in wire.settings(quick=False)]
    assert len(set(names)) == len(names)
    shown = {pattern.format(loop=loop) for pattern in wire_chart.COLUMNS.values() for loop in wire_chart.LOOPS}
    assert shown <= set(names)


def test_table_and_chart_show_the_last_results(tmp_path):
    results = tmp_path / "results.jsonl"
    name = "wire: plain, 100 connections, uvloop, 720 bytes: "
    rows = [
        {"name": "something else", "value": 1.0},
        {"name": name + "seam", "value": 1.0, "cpu_us": 9.0},
        {"name": name + "wrk", "value": 80_000.0},
        {"name": name + "seam", "value": 30_000.0, "cpu_us": 28.3},
    ]
    results.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert wire_chart.table(results) == [
        "polls per second  loop       100  1,000  100, TLS  1,000, 200 ms",
        "wrk, in C                 80,000",
        "batchrun          uvloop  30,000",
        "",
        "µs of CPU time per poll  loop    100  1,000  100, TLS  1,000, 200 ms",
        "batchrun                 uvloop   28",
    ]
    wire_chart.draw(results, tmp_path / "charts" / "wire.svg")
    drawn = (tmp_path / "charts" / "wire.svg").read_text()
    assert "30,000" in drawn
    assert "batchrun" in drawn
