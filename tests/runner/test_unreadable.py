"""Responses that cannot be read: kept in OUT.unreadable as received, their rows ended, and nothing asked for again."""

import pytest

from batchrun.core.responses.http import Answer
from tests.runner.night import Night, Wire, row

LARGE = b'{"id": "paid for", "status": "completed", "x": NaN, "text": "' + b"x" * (8 << 20) + b'"}'
MESSAGE = b'{"type": "message", "content": [{"text": "\\ud800"}]}'
MANY_PARTS = b'{"status": "completed", "output": [' + MESSAGE + b", 0" * 260_000 + b"]}"
DEEP = b'{"id": ' + b"[" * 1_015 + b"]" * 1_015 + b', "status": "queued"}'


class Strange(Wire):
    """It answers the POSTs or the polls of the row `a` with the same bytes."""

    method = "GET"
    body = b""

    async def exchange(self, request, timeout):  # noqa: ASYNC109 - the seam's own law
        answer = await super().exchange(request, timeout)
        asked_for = self.jobs.get(request.path.rpartition("/")[2], self.posts[-1])
        return Answer(200, {}, self.body) if request.method == self.method and asked_for == "a" else answer


@pytest.fixture
def night(tmp_path):
    night = Night(tmp_path, Strange())
    night.rows(row("other", "b"), row("row", "a"))
    return night


def kept(night):
    folder = night.folder / "out.jsonl.unreadable"
    return [path.read_bytes() for path in folder.iterdir()] if folder.exists() else []


def test_p25_a_result_that_is_too_large_to_read_is_kept_and_its_job_not_polled_again(night):
    night.wire.body = LARGE
    night.complete()
    record = night.records()["row"]
    assert (record["state"], record["error"]["code"]) == ("failed", "unreadable_result")
    assert "OUT.unreadable" in record["error"]["message"]
    assert night.records()["other"]["state"] == "succeeded"
    assert [one for one in night.wire.polls if one.endswith("a")] == [record["job_id"]]
    assert kept(night) == [LARGE]
    requests = len(night.wire.polls), len(night.wire.posts)
    night.complete()
    assert (len(night.wire.polls), len(night.wire.posts)) == requests, "the next run asks for nothing"


@pytest.mark.parametrize("body", [LARGE, b'{"id": "paid for", "status'], ids=["p25-large", "cut off"])
def test_a_response_to_a_post_that_cannot_be_read_is_kept_and_its_row_unconfirmed(night, body):
    night.wire.method, night.wire.body = "POST", body
    night.complete()
    assert night.records()["row"]["state"] == "unconfirmed"
    assert kept(night) == [body]
    night.complete()
    assert night.wire.posts.count("a") == 1


def test_p25_a_response_nested_beyond_the_recursion_limit_ends_its_row_and_not_the_run(night):
    night.wire.method, night.wire.body = "POST", DEEP
    night.complete()
    assert {name: record["state"] for name, record in night.records().items()} == {
        "row": "unconfirmed",
        "other": "succeeded",
    }


def test_p25_a_result_of_many_parts_that_is_no_strict_json_is_kept_in_its_record(night):
    night.wire.method, night.wire.body = "POST", MANY_PARTS
    night.complete()
    record = night.records()["row"]
    assert (record["state"], record["warnings"]) == ("succeeded", ["body_not_strict_json"])
    assert record["response"]["body"]["output"][0] == {"type": "message", "content": [{"text": "\\ud800"}]}
    assert len(record["response"]["body"]["output"]) == 260_001
    assert kept(night) == []
