"""Everything is sent, nothing is watched; what was sent comes home later, wherever the files are by then."""

import shutil
import signal
import time

from batchrun.core.journal.fold import fold
from tests.e2e.holding import holding
from tests.e2e.stage import PATIENT, Batch, rows, serving, wait_until

pytestmark = PATIENT

HOME = ("--poll-min", "200ms", "--poll-max", "1s", "--poll-rate", "2000")


def journaled_rows(batch):
    with batch.journal.open("rb") as journal:
        return fold(journal).journaled_rows


def test_detached_moved_and_collected_elsewhere(long, tmp_path):
    count = 5_000 if long else 800
    with serving(tmp_path, "[times]\npost = '20ms..60ms'\nduration = '1500ms'\n") as service:
        batch = Batch(tmp_path, rows(count), "--base-url", service.url)
        began = time.monotonic()
        left = batch.run("--detach")
        seconds = time.monotonic() - began
        assert left.code == 0
        left.says(
            "detaching: every row is submitted and none is polled",
            f"detached: 0 of {count:,} rows done",
            f"{count:,} jobs are still running on the service and will be billed; the next run collects them and pays nothing twice",
            f"batchrun {batch.input} -o {batch.output} --base-url {service.url} collects the results",
        )
        sent = service.statistics()
        assert (sent["posts"], sent["jobs"], sent["polls"]) == (count, count, 0)
        assert sum(journaled.job_id is not None for journaled in journaled_rows(batch).values()) == count

        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        for file in tmp_path.glob("batch.out*"):
            shutil.copy(file, elsewhere)
            file.unlink()
        batch.input.unlink()
        batch.folder, batch.output, batch.journal = elsewhere, elsewhere / "batch.out", elsewhere / "batch.out.journal"
        began = time.monotonic()
        home = batch.tell("collect", "--base-url", service.url, *HOME)
        assert home.code == 0, home.said
        home.says(f"collecting {count:,} jobs of earlier runs", f"complete: {count:,} of {count:,} rows done")
        print(f"\n{count:,} rows: detached in {seconds:.1f} s, collected in {time.monotonic() - began:.1f} s")
        assert {record["state"] for record in batch.whole().values()} == {"succeeded"}
        books = service.statistics()
        assert (books["posts"], books["jobs"], books["cancels"]) == (count, count, 0)
        again = batch.tell("collect", "--base-url", service.url, *HOME)
        assert (again.code, service.statistics()["polls"]) == (0, books["polls"]), "what is home is asked for no more"


def test_rows_that_fail_at_the_submit_and_what_makes_no_sense(tmp_path):
    with serving(tmp_path, "[times]\npost = '20ms'\nduration = '300ms'\n") as service:
        some = rows(40)
        for n in (5, 25):
            some[n]["body"]["input"] = "[[refuse invalid_prompt]] no"
        batch = Batch(tmp_path, some, "--base-url", service.url, *HOME)
        for flags, told in [
            (("--concurrency", "10"), "--concurrency 10: expected none with --detach"),
            (("--retries", "x"), "--retries: expected a whole number"),
        ]:
            refused = batch.run("--detach", *flags)
            assert (refused.code, len(refused.said.splitlines()), batch.journal.exists()) == (2, 1, False)
            refused.says(told)
        left = batch.run("--detach")
        assert left.code == 1, "some rows did not succeed, and that is known already"
        left.says(
            "detached: 2 of 40 rows done", "rejected 2 2 invalid_prompt", "38 jobs are still running on the service"
        )
        assert batch.states() == {"rejected": 2}
        pointless = batch.tell("collect", "--detach", "--base-url", service.url)
        assert (pointless.code, len(pointless.said.splitlines())) == (2, 1)
        pointless.says("--detach: expected a run with an input to send")
        home = batch.run()
        assert home.code == 1
        home.says(
            "resuming 40 rows, 2 already finished, 38 jobs of earlier runs in flight", "complete: 40 of 40 rows done"
        )
        batch.whole()
        assert batch.states() == {"rejected": 2, "succeeded": 38}
        assert service.posts() == dict.fromkeys(batch.whole(), 1)


def test_ctrl_c_while_it_detaches_and_the_end_of_all_by_another_command(tmp_path):
    with (
        serving(tmp_path, "[times]\npost = '20ms'\nduration = '2h'\n") as service,
        holding(service, "/responses", 15) as proxy,
    ):
        batch = Batch(tmp_path, rows(60), "--base-url", proxy.url, *HOME, "--cancel-settle", "300ms")
        run = batch.start("--detach", "--submits", "8")
        wait_until(lambda: proxy.held.total() == 8)
        run.send_signal(signal.SIGINT)
        wait_until(lambda: "stopping: waiting for 8 submits" in batch.screen.read_text())
        proxy.let_go()
        stopped = batch.end(run)
        assert stopped.code == 130
        stopped.says("stopping: waiting for", "stopped by Ctrl-C: 0 of 60 rows done", "resumes this batch")
        sent = service.statistics()["jobs"]
        assert sent == 15 + 8
        assert all(
            journaled.job_id is not None for journaled in journaled_rows(batch).values() if not journaled.is_void
        )
        left = batch.run("--detach")
        assert left.code == 0
        left.says(
            f"{sent} jobs of earlier runs in flight", "60 jobs are still running on the service and will be billed"
        )
        assert service.posts() == {row["custom_id"]: 1 for row in batch.rows}
        ended = batch.tell(
            "cancel", "--all", "--base-url", proxy.url, "--poll-min", "200ms", "--cancel-settle", "300ms"
        )
        assert ended.code == 0
        ended.says("60 rows are cancelled; they were sent, and may be billed")
        batch.whole()
        books = service.statistics()
        assert (batch.states(), books["cancels"], books["open_jobs"], books["posts"]) == ({"cancelled": 60}, 60, 0, 60)
