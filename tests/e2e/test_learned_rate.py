"""The command without a flag against a service with a limit, in two processes: few submits are refused."""

from tests.e2e.stage import PATIENT, Batch, rows, serving

pytestmark = PATIENT
LIMITED = "[limits]\nrpm = 1200\nwindow = 1\n[times]\nduration = '100ms'\npost = '10ms..40ms'\n"


def test_a_limited_service_refuses_little_of_a_run_without_flags(tmp_path):
    with serving(tmp_path, LIMITED) as service:
        batch = Batch(tmp_path, rows(160), "--base-url", service.url, "--poll-min", "0.5", "--poll-max", "1")
        ended = batch.run()
        assert ended.code == 0, ended.said
        assert batch.states() == {"succeeded": 160}
        books = service.statistics()
        assert books["posts"] - 160 <= 0.05 * 160
        assert sum(service.jobs().values()) == 160


def test_a_row_beyond_a_minutes_tokens_is_told_before_the_run(tmp_path):
    with serving(tmp_path, LIMITED) as service:
        batch = Batch(tmp_path, rows(3, "word " * 20_000), "--base-url", service.url, "--poll-min", "0.5")
        ended = batch.run("--tpm", "10000", "--max-wait", "1s")
        ended.says("takes about 25,5", "more than a minute of --tpm 10000: rows like it go alone, after the others")
        assert ended.code == 3
