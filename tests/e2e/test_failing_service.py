"""A service that accepts jobs and fails them all for a while: told, few are sent meanwhile, and every row succeeds."""

import json
import threading

from batchrun.cli import main
from batchrun.core.limits import breaker
from tests.e2e.stage import CANARY, PATIENT, Batch, rows, serving, wait_until

pytestmark = PATIENT

TIMES = "[times]\npost = '2ms'\nduration = '20ms'\n"


def test_a_service_that_fails_its_jobs_is_probed_until_it_works(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(breaker, "FIRST_GAP", 0.2)
    monkeypatch.setattr(breaker, "LONGEST_GAP", 0.4)
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    with serving(tmp_path, f"{TIMES}[jobs]\nserver_error = '100%'\n") as service:
        batch = Batch(tmp_path, rows(150))
        log = tmp_path / "log.json"

        def repair():
            wait_until(lambda: log.exists() and '"failing"' in log.read_text())
            failed = service.statistics()["jobs"]
            wait_until(lambda: service.statistics()["jobs"] >= failed + 3)
            service.behave(TIMES)

        repairing = threading.Thread(target=repair)
        repairing.start()
        flags = ("--poll-min", "50ms", "--poll-max", "100ms", "--concurrency", "20", "--log-json", str(log))
        code = main([str(batch.input), "-o", str(batch.output), "--base-url", service.url, *flags])
        repairing.join()
        said = " ".join(capsys.readouterr().err.split())
        assert code == 0, said
        assert "failed by the service's own fault (server_error): its rows wait, and one at a time is sent" in said
        assert "gpt-5 succeed again, after" in said
        assert batch.states() == {"succeeded": 150}
        assert service.statistics()["jobs"] <= 2 * 150
    events = [json.loads(line) for line in log.read_text().splitlines()]
    failing = [event for event in events if event["event"] in ("failing", "recovered")]
    assert [(event["event"], event["model"]) for event in failing[:2]] == [("failing", "gpt-5"), ("recovered", "gpt-5")]
    assert failing[0]["code"] == "server_error"
