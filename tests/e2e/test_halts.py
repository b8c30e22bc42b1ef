"""What stops a batch as a whole: quota, key, outage, another project. No row is harmed, and the same command goes on."""

import time

import pytest

from batchrun.cli import main
from batchrun.core.engine import polls
from tests.e2e.holding import holding
from tests.e2e.stage import CANARY, PATIENT, Batch, rows, serving, wait_until

pytestmark = PATIENT

QUICK = "[times]\npost = '20ms..60ms'\nduration = '100ms..400ms'\n"
FLAGS = ("--poll-min", "200ms", "--poll-max", "1s", "--poll-rate", "2000", "--concurrency", "200")
W = 32


def halted(batch, service, ended, taken, *advice):
    """The run ended with exit 3, with a record for each job that was taken and for nothing else."""
    assert ended.code == 3, ended.said
    ended.says("halted", *advice, "resumes this batch")
    books = service.statistics()
    assert books["rows"] - books["jobs"] <= W
    assert books["posts"] - books["jobs"] <= W
    assert batch.states() == {"succeeded": books["jobs"]}, "open jobs are collected, refused rows stay open"
    assert books["open_jobs"] == 0
    assert books["jobs"] >= taken
    return books


def finished(batch, service):
    assert batch.run().code == 0
    assert {record["state"] for record in batch.whole().values()} == {"succeeded"}
    assert service.jobs() == dict.fromkeys(batch.whole(), 1)


@pytest.mark.timeout(400)
def test_the_quota_is_gone_and_comes_back(long, tmp_path):
    count, quota = (10_000, 1_000) if long else (600, 200)
    with serving(tmp_path, f"{QUICK}[limits]\nquota = {quota}\n") as service:
        batch = Batch(tmp_path, rows(count), "--base-url", service.url, *FLAGS)
        books = halted(batch, service, batch.run(), quota, "quota: insufficient_quota", "top up or raise the limit")
        assert books["jobs"] == quota
        service.behave(QUICK)
        finished(batch, service)


def test_a_halt_is_told_once(tmp_path):
    """At once that nothing more is submitted, where jobs are in flight; why and what to do at the end."""
    behaviour = "[times]\nduration = '1500ms'\n[limits]\nquota = 3\n"
    with serving(tmp_path, behaviour) as service:
        batch = Batch(tmp_path, rows(6), "--base-url", service.url, *FLAGS, "--submits", "1")
        ended = batch.run()
        assert ended.code == 3
        ended.says("halted, quota: no more rows are submitted; 3 jobs in flight", "halted: 3 of 6 rows done")
        assert ended.said.count("insufficient_quota") - ended.said.count("explain insufficient_quota") == 1
        quiet = batch.run("--quiet")
        assert (quiet.code, quiet.said.count("halted, quota: insufficient_quota")) == (3, 1)


@pytest.mark.timeout(400)
def test_the_key_is_refused_and_works_again(long, tmp_path):
    count, taken = (10_000, 1_000) if long else (600, 200)
    with serving(tmp_path, QUICK) as service, holding(service, "/responses", taken) as proxy:
        batch = Batch(tmp_path, rows(count), "--base-url", proxy.url, *FLAGS)
        process = batch.start()
        wait_until(lambda: proxy.held.total() == W)
        service.behave(f"{QUICK}[submits]\nhttp_401 = '100%'\n")
        proxy.let_go()
        halted(batch, service, batch.end(process), taken, "auth: ", "give a valid API key")
        service.behave(QUICK)
        finished(batch, service)


@pytest.mark.timeout(500)
def test_s24_an_outage_costs_few_rows_and_harms_no_other(long, tmp_path):
    count, lasts = (20_000, 120) if long else (400, 2)
    with serving(tmp_path, QUICK) as service, holding(service, "/responses", count // 4) as proxy:
        batch = Batch(tmp_path, rows(count), "--base-url", proxy.url, *FLAGS)
        process = batch.start()
        wait_until(lambda: proxy.held.total() == W)
        service.behave(f"{QUICK}[[outages]]\nfrom = 0\nto = 7200\n")
        proxy.let_go()
        wait_until(lambda: batch.journal.read_text().count('"unconfirmed":') >= 5)
        time.sleep(lasts)
        service.behave(QUICK)
        ended = batch.end(process, 450)
    assert ended.code == 1
    batch.whole()
    states = batch.states()
    assert 5 <= states["unconfirmed"] <= 45
    assert states == {"succeeded": count - states["unconfirmed"], "unconfirmed": states["unconfirmed"]}
    ended.says("--resubmit-unconfirmed", "sends the unconfirmed rows again; may pay twice")


def test_p05_zombies_are_left_by_a_run_that_waits_no_longer_and_ended_by_their_deadline(tmp_path):
    """Queued or running for ever: --max-wait ends the run, --deadline the jobs."""
    with serving(tmp_path, QUICK) as service:
        ways = ("[[stuck_queued]]", "[[stuck_running]]", "")
        some = rows(12)
        for n, row in enumerate(some):
            row["body"]["input"] = f"{ways[n % 3]} say hello"
        batch = Batch(tmp_path, some, "--base-url", service.url, *FLAGS, "--cancel-settle", "300ms")
        process = batch.start()
        wait_until(lambda: len(batch.records()) == 4 and service.statistics()["jobs"] == 12)
        process.terminate()
        assert batch.end(process).code == 143
        ended = batch.run("--max-wait", "2s")
        assert ended.code == 3
        ended.says(
            "max wait: --max-wait of 2 s is over",
            "halted: 4 of 12 rows done",
            "8 jobs are still running on the service and will be billed",
            "run the same command again to collect what is still running",
        )
        assert (batch.states(), service.statistics()["cancels"]) == ({"succeeded": 4}, 0)
        assert batch.run("--deadline", "4s").code == 1
        batch.whole()
        assert batch.states() == {"succeeded": 4, "timeout": 8}
        for n, row in enumerate(some):
            record = batch.records()[row["custom_id"]]
            if n % 3 < 2:
                error = record["error"]
                assert (error["code"], error["source"], record["billing"]) == ("deadline_exceeded", "client", "unknown")
        books = service.statistics()
        assert (books["cancels"], books["open_jobs"], books["posts"]) == (8, 0, 12)


def test_p08_another_project_on_resume_writes_nothing_off(tmp_path, monkeypatch, capsys):
    """In this process, so that what is patience in earnest, two minutes, is a second here."""
    with serving(tmp_path, "[times]\nduration = '1h'\n") as service:
        batch = Batch(tmp_path, rows(5), "--base-url", service.url, *FLAGS)
        process = batch.start()
        service.wait_until(lambda books: books["jobs"] == 5)
        process.terminate()
        assert batch.end(process).code == 143
        port = service.port
    with serving(tmp_path, "seed = 9\n", port=port) as another:
        monkeypatch.setattr(polls, "WRITE_OFF_AFTER", 1.0)
        monkeypatch.setenv("OPENAI_API_KEY", CANARY)
        code = main([str(batch.input), "-o", str(batch.output), "--base-url", another.url, *FLAGS])
        said = " ".join(capsys.readouterr().err.split())
        assert code == 3, said
        assert (
            f"the service finds none of 5 open jobs with this API key; the service asked was {another.url}, no organisation and no project"
            in said
        )
        assert "--write-off gives them up" in said
        assert batch.records() == {}
        assert another.statistics()["posts"] == 0
