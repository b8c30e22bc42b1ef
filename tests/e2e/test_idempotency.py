"""Lost responses and kill -9 at a service that honours idempotency keys: every row gets one job, and none is unconfirmed."""

import signal

from tests.e2e.stage import LONGEST, PATIENT, Batch, rows, serving, wait_until

SCENARIO = """
[times]
post = "20ms..100ms"
duration = "100ms..500ms"
idempotency = "1h"
[submits]
lost = "15%"
[jobs]
server_error = "20%"
"""
PROFILE = """
name = "keeper"
base_url = "{url}"
[endpoints]
submit = "/responses"
poll = "/responses/{{id}}"
cancel = "/responses/{{id}}/cancel"
[endpoints.ours]
background = true
[auth]
env = "OPENAI_API_KEY"
[idempotency]
header = "Idempotency-Key"
keeps = "1h"
"""
ROWS, KILLS = 80, 2


@PATIENT
def test_o19_lost_responses_and_kills_cost_nothing_twice(tmp_path):
    with serving(tmp_path, SCENARIO) as service:
        profile = tmp_path / "keeper.toml"
        profile.write_text(PROFILE.format(url=service.url))
        batch = Batch(tmp_path, rows(ROWS), "--service", str(profile), "--submits", "8", "--poll-max", "300ms")
        open_intents = 0
        for kill in range(1, KILLS + 1):
            process = batch.start(begun=False)
            enough = kill * ROWS // (KILLS + 1)
            wait_until(
                lambda n=enough, p=process: counted(batch, b'"intent"') >= n or p.poll() is not None, pause=0.005
            )
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=LONGEST)
            open_intents += counted(batch, b'"intent"') - counted(batch, b'"submitted"')
        ended = batch.run()
        assert ended.code in (0, 1), ended.said
        assert open_intents, "a kill found a POST in flight"
        records = batch.whole()
        assert {record["state"] for record in records.values()} <= {"succeeded", "internal_error"}
        attempts = {key: 1 + record["retry_count"] for key, record in records.items()}
        assert service.jobs() == attempts
        assert max(attempts.values()) > 1, "the key of a retry is its own, before a kill and after it"
        assert sum(service.posts().values()) > ROWS, "some rows were sent again"


def counted(batch, tag):
    return batch.journal.read_bytes().count(tag) if batch.journal.exists() else 0
