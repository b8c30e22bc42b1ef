"""Rows are ended from outside: beside a run, without one, in every race with the service; and by an interrupt.

What became of the jobs is told by the service's books: a cancel that was only written down would show there.
"""

import json
import re
import signal
import urllib.request

import pytest

from tests.e2e.holding import holding
from tests.e2e.stage import ENVIRONMENT, LONGEST, PATIENT, Batch, rows, serving, wait_until

pytestmark = PATIENT

LONG = "[times]\npost = '20ms'\nduration = '1h'\n"
QUICK = ("--poll-min", "200ms", "--cancel-settle", "300ms")
FAST = (*QUICK, "--poll-max", "1s", "--poll-rate", "2000")
NO_KEY = {name: value for name, value in ENVIRONMENT.items() if name != "OPENAI_API_KEY"}
GONE_OVER = {"late_completed": "late_completed", "slow": None, "ignored": None, "conflict": None, "refused": None, "http_500": None}  # fmt: skip


@pytest.fixture
def service(tmp_path):
    with serving(tmp_path, LONG) as service:
        yield service


def named(*names):
    return [word for name in names for word in ("--id", name)]


def killed(process):
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=LONGEST)


def entries(batch, tag):
    lines = batch.journal.read_bytes().split(b"\n")[:-1]
    return [entry[tag] for line in lines if tag in (entry := json.loads(line[9:]))]


def job_of(batch, key):
    return next(entry["job_id"] for entry in entries(batch, "submitted") if entry["key"] == key)


def scripted(*prompts):
    made = rows(len(prompts))
    for row, prompt in zip(made, prompts, strict=True):
        row["body"]["input"] = prompt
    return made


def to_end(said):
    """How many rows the command says to be cancelled, or about to be: which of the two is a matter of moments."""
    return sum(map(int, re.findall(r"(\d+) rows? (?:ends? as|is|are) cancelled", said.said)))


def ended_as(batch, key):
    record = batch.records()[key]
    return record["state"], record["error"] and record["error"]["code"], record["billing"], record["warnings"]


# --- beside a run ---


def test_c01_c03_c06_beside_a_live_run(service, tmp_path):
    """By name, by job, twice, from two processes at once, a finished row, an unknown one; then all that is left."""
    batch = Batch(tmp_path, scripted(*["a long one"] * 12, *["[[sleep 0.2]] a short one"] * 18), "--base-url", service.url, *FAST, "--concurrency", "12")  # fmt: skip
    run = batch.start()
    screen = batch.screen
    service.wait_until(lambda books: books["jobs"] == 12)
    both = [batch.begin("cancel", *named("row-0", "row-1")), batch.begin("cancel", *named("row-1", "row-2", "row-29"))]
    for done, count in zip(map(batch.told, both), (2, 3), strict=True):
        assert (done.code, to_end(done)) == (0, count)
    service.wait_until(lambda books: books["jobs"] == 12 + 17)
    again = batch.tell("cancel", *named("row-0", job_of(batch, "row-3"), "row-12", "no \x1bbody"))
    assert (again.code, to_end(again)) == (1, 2), "a name is known to be no row"
    again.says(
        "row-12: had already ended as succeeded",
        "no \\x1bbody: no row of this batch",
    )
    service.wait_until(lambda books: books["cancels"] == 4)
    the_rest = batch.tell("cancel", "--all")
    assert (the_rest.code, to_end(the_rest)) == (0, 13)
    batch.screen = screen
    ended = batch.end(run)
    assert ended.code == 1
    ended.says("complete: 30 of 30 rows done", "cancelled 13 13 cancelled_by_user")
    batch.whole()
    assert batch.states() == {"cancelled": 13, "succeeded": 17}
    assert ended_as(batch, "row-29") == ("cancelled", "cancelled_by_user", "not_billed", [])
    assert (service.statistics()["cancels"], service.statistics()["open_jobs"]) == (12, 0)
    assert service.posts() == {row["custom_id"]: 1 for row in batch.rows[:29]}
    nothing = batch.tell("cancel", "--all", "--base-url", service.url)
    assert (nothing.code, nothing.said) == (0, "13 rows had already ended as cancelled\n17 rows had already ended: 17 succeeded\n")  # fmt: skip
    assert batch.run().code == 1
    assert service.statistics()["cancels"] == 12


def test_c04_c05_what_services_do_to_a_cancel(tmp_path):
    """Refused in every way, granted late, or followed by a result: the record is `cancelled`, and no result is kept."""
    ways = [way for way in GONE_OVER for _ in range(5)]
    with serving(tmp_path, f"{LONG}late = '600ms'\n") as service:
        batch = Batch(tmp_path, scripted(*(f"[[cancel {way}]] say hello" for way in ways)), "--base-url", service.url, "--poll-min", "200ms", "--poll-max", "400ms", "--cancel-settle", "1500ms", "--cancel-patience", "3s")  # fmt: skip
        run = batch.start()
        screen = batch.screen
        wait_until(lambda: len(entries(batch, "submitted")) == len(ways))
        ids = {row["custom_id"]: job_of(batch, row["custom_id"]) for row in batch.rows}
        said = batch.tell("cancel", "--all")
        batch.screen = screen
        ended = batch.end(run)
        assert (said.code, ended.code) == (0, 1)
        texts = []
        for row, way in zip(batch.rows, ways, strict=True):
            record = batch.records()[row["custom_id"]]
            assert (record["state"], record["error"]["source"], record["response"]) == ("cancelled", "client", None), (
                way
            )
            assert record["output_text"] is None
            assert record["warnings"] == ([GONE_OVER[way]] if GONE_OVER[way] else [])
            with urllib.request.urlopen(f"{service.url}/responses/{ids[row['custom_id']]}", timeout=LONGEST) as answer:
                body = json.load(answer)
            if way == "late_completed":
                assert body["status"] == "completed"
                assert record["usage"]["output_tokens"] == body["usage"]["output_tokens"] > 0
                assert record["status"] == "completed"
                texts.append(body["output"][0]["content"][0]["text"])
            elif way in ("conflict", "refused", "http_500", "ignored"):
                assert (body["status"], record["billing"]) == ("in_progress", "unknown"), "it may still be billed"
        assert len(set(texts)) > 1
        written = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file()).decode()
        assert not any(text[:40] in written + said.said + ended.said for text in texts), "what came late is nowhere"
        assert batch.whole()
        assert service.posts() == dict.fromkeys(batch.whole(), 1)


def test_c02_while_posts_are_in_flight(service, tmp_path):
    """Ten rows are on their way when all are cancelled: seven answers come, three are lost."""
    lost = (31, 34, 37)
    prompts = [f"[[refuse lost]] {n}" if n in lost else f"hello {n}" for n in range(40)]
    with holding(service) as proxy:
        batch = Batch(tmp_path, scripted(*prompts), "--base-url", proxy.url, *FAST, "--concurrency", "30")
        run = batch.start()
        screen = batch.screen
        wait_until(lambda: len(entries(batch, "submitted")) == 30)
        proxy.holds = "/responses"
        batch.tell("cancel", *named(*(f"row-{n}" for n in range(10))))
        wait_until(lambda: proxy.held.total() == 10)
        said = batch.tell("cancel", "--all")
        said.says(f"process {run.pid} accepted the cancel request", "they were sent, and may be billed")
        assert (to_end(said), service.statistics()["posts"]) == (40, 30)
        proxy.let_go()
        batch.screen = screen
        assert batch.end(run).code == 1
    batch.whole()
    assert batch.states() == {"cancelled": 40}
    for n in range(40):
        expected = ("cancelled", "cancelled_by_user", "unknown", ["submit_unanswered"] if n in lost else [])
        assert ended_as(batch, f"row-{n}") == expected
    books = service.statistics()
    assert (books["posts"], books["jobs"], books["cancels"], books["open_jobs"]) == (40, 40, 37, 3)


def test_within_a_second_of_the_submit(tmp_path):
    with serving(tmp_path, "[times]\npost = '50ms..300ms'\nduration = '1h'\n") as service:
        batch = Batch(tmp_path, rows(200), "--base-url", service.url, *FAST, "--submits", "16")
        run = batch.start()
        screen = batch.screen
        service.wait_until(lambda books: books["posts"] >= 40)
        said = batch.tell("cancel", "--all")
        books = service.statistics()
        batch.screen = screen
        assert (said.code, batch.end(run).code) == (0, 1)
        records, posts = batch.whole(), service.posts()
        assert batch.states() == {"cancelled": 200}
        assert set(posts.values()) == {1}
        for key, record in records.items():
            sent = key in posts
            assert (record["billing"], record["warnings"]) == ("unknown" if sent else "not_billed", [])
            assert (record["job_id"] is not None) == sent
        after = service.statistics()
        print(f"\n{len(posts)} of 200 rows were sent, {books['posts_in_flight']} POSTs in flight once it was heard")
        assert (after["cancels"], after["open_jobs"]) == (len(posts), 0)


# --- without a run ---


def test_c07_on_a_dead_batch_with_and_without_a_key(service, tmp_path):
    batch = Batch(tmp_path, rows(60), "--base-url", service.url, *FAST, "--concurrency", "40")
    run = batch.start()
    wait_until(lambda: len(entries(batch, "submitted")) == 40)
    killed(run)
    here = ("--base-url", service.url, *QUICK)
    one = batch.tell("cancel", *named("row-0", job_of(batch, "row-1"), "row-59", "nobody"), *here)
    assert one.code == 0
    one.says(
        "no run is active; cancelling 2 open rows from here",
        "2 rows are cancelled; they were sent, and may be billed",
        "row-59: nothing was sent for it; if the input has such a row, the next run writes it as cancelled",
        "nobody: nothing was sent for it",
    )
    assert (service.statistics()["cancels"], batch.states()) == (2, {"cancelled": 2})

    both = [batch.begin("cancel", *named(*names), *here) for names in (("row-2", "row-3"), ("row-3", "row-4"))]
    for done in map(batch.told, both):
        assert done.code == 0, done.said
        assert "row" in done.out
    wait_until(lambda: len(batch.records()) == 5)  # the one handed its wish over to the other
    assert (service.statistics()["cancels"], batch.states()) == (5, {"cancelled": 5})

    missing = batch.tell("cancel", "--id", "row-6", "--service", "openai", environment=NO_KEY)
    assert missing.code == 2
    missing.says(
        "no run is active; cancelling 1 open row from here",
        "OPENAI_API_KEY is not set; export it",
        "no row was cancelled, and no cancel request is left behind",
    )
    wrong = batch.tell("cancel", "--all", "--base-url", "http://127.0.0.1:9/v1", *QUICK)
    assert wrong.code == 4
    wrong.says(
        "this batch was started on compatible at http://127.0.0.1", "the cancel request is recorded: the next run"
    )
    assert service.statistics()["cancels"] == 5

    ended = batch.run()
    assert ended.code == 1
    ended.says("complete: 60 of 60 rows done")
    batch.whole()
    assert batch.states() == {"cancelled": 60}
    books = service.statistics()
    assert (books["cancels"], books["posts"], books["open_jobs"]) == (40, 40, 0)
    for n in (59, 58, 41):
        assert ended_as(batch, f"row-{n}") == ("cancelled", "cancelled_by_user", "not_billed", [])


def test_c02_after_a_kill_with_posts_in_flight(tmp_path):
    with serving(tmp_path, LONG) as service, holding(service, "/responses", passed=10) as proxy:
        batch = Batch(tmp_path, rows(30), "--base-url", proxy.url, *FAST, "--submits", "8")
        run = batch.start()
        wait_until(lambda: proxy.held.total() == 8 and len(entries(batch, "submitted")) == 10)
        killed(run)
        proxy.let_go()
        known = {entry["key"] for entry in entries(batch, "submitted")}
        lost = {entry["key"] for entry in entries(batch, "intent")} - known
        said = batch.tell("cancel", "--all", "--base-url", proxy.url, *QUICK)
        assert said.code == 0
        sent = len(known) + len(lost)
        said.says(f"{sent} rows are cancelled; they were sent, and may be billed")
        said.says(f"{30 - sent} rows were never sent: nothing is billed")
        assert batch.run().code == 1
        unanswered = {key for key, record in batch.whole().items() if record["warnings"] == ["submit_unanswered"]}
        assert (batch.states(), unanswered) == ({"cancelled": 30}, lost)
        assert len(lost) == 8
        assert service.statistics()["cancels"] == len(known)
        assert set(service.posts()) <= known | lost


@pytest.mark.parametrize("resumed_by", ["run", "cancel"])
def test_c07_killed_between_the_journal_entry_and_the_request(resumed_by, long, service, tmp_path):
    if resumed_by == "cancel" and not long:
        pytest.skip("the same by the other command: --long")
    with holding(service, "/cancel") as proxy:
        batch = Batch(tmp_path, rows(12), "--base-url", proxy.url, *FAST)
        run = batch.start()
        wait_until(lambda: len(entries(batch, "submitted")) == 12)
        assert batch.tell("cancel", "--all").code == 0
        wait_until(lambda: len(proxy.held) == 12)
        killed(run)
        assert len(entries(batch, "cancelling")) == 12
        assert (service.statistics()["cancels"], batch.records()) == (0, {})
        proxy.let_go()
        if resumed_by == "cancel":  # it finishes what was begun, whichever rows are named
            assert batch.tell("cancel", "--id", "row-0", "--base-url", proxy.url, *QUICK).code == 0
            assert batch.states() == {"cancelled": 12}
        assert batch.run().code == 1
        batch.whole()
        assert batch.states() == {"cancelled": 12}
        books = service.statistics()
        assert (books["cancels"], books["posts"], books["open_jobs"]) == (12, 12, 0)


# --- an interrupt ---


def test_ctrl_c_may_end_what_runs_over_there(service, tmp_path):
    batch = Batch(tmp_path, rows(60), "--base-url", service.url, *FAST, "--concurrency", "40")
    run = batch.start("--cancel-on-interrupt")
    wait_until(lambda: len(entries(batch, "submitted")) == 40)
    run.send_signal(signal.SIGINT)
    ended = batch.end(run)
    assert ended.code == 130
    ended.says(
        "stopping: cancelling 40 jobs on the service", "cancelled 40 40 cancelled_by_interrupt", "20 rows are left"
    )
    assert "over there and" not in ended.said
    assert batch.states() == {"cancelled": 40}
    assert {record["error"]["code"] for record in batch.records().values()} == {"cancelled_by_interrupt"}
    books = service.statistics()
    assert (books["cancels"], books["posts"], books["open_jobs"]) == (40, 40, 0)
    service.behave("[times]\nduration = '100ms'\n")
    assert batch.run().code == 1
    batch.whole()
    assert batch.states() == {"cancelled": 40, "succeeded": 20}


def test_the_second_ctrl_c_leaves_at_once_and_the_next_run_finishes_the_cancels(service, tmp_path):
    with holding(service, "/cancel") as proxy:
        batch = Batch(tmp_path, rows(30), "--base-url", proxy.url, *FAST)
        run = batch.start("--cancel-on-interrupt", "--drain", "2h", "--cancel-timeout", "2h", "--cancel-patience", "2h")
        wait_until(lambda: len(entries(batch, "submitted")) == 30)
        run.send_signal(signal.SIGINT)
        wait_until(lambda: len(proxy.held) == 30)
        run.send_signal(signal.SIGINT)
        ended = batch.end(run)  # with all its cancels unanswered, and hours left to wait for them
        assert (ended.code, batch.records(), service.statistics()["cancels"]) == (130, {}, 0)
        ended.says(
            "30 jobs were being cancelled and may still run on the service, billed; the next run ends them as cancelled"
        )
        proxy.let_go()
        assert batch.run().code == 1
        batch.whole()
        assert {ended_as(batch, key)[:2] for key in batch.records()} == {("cancelled", "cancelled_by_interrupt")}
        books = service.statistics()
        assert (books["cancels"], books["posts"], books["open_jobs"]) == (30, 30, 0)
