"""Ids of jobs from earlier runs, as a resume finds them on real files: none of them counts for another row."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from batchrun.core.jobs.messages import Outcome
from batchrun.core.journal.entries import AttemptEnded, Intent, Submitted
from batchrun.core.rows.parse import Prepared
from batchrun.edge.cancel_file import cancel_request
from batchrun.edge.source import check
from batchrun.runner.loop.runner import Runner
from batchrun.services.choice import choose
from batchrun.services.profile import COMPATIBLE
from tests.runner.night import WALL, Night, Observer, Wire, row


class Repeating(Wire):
    """A service that answers a prompt that it knows with the job that it has for it."""

    def answer(self, job_id, status):
        prompt = self.jobs.get(job_id)
        first = next((known for known, of in self.jobs.items() if of == prompt), job_id)
        return super().answer(first, status)


class OneService(Night):
    repeats_ids = False

    def service(self):
        profile = replace(COMPATIBLE, repeats_ids=self.repeats_ids)
        return choose({"OPENAI_API_KEY": self.key}, service=profile, base_url=self.base_url)


@pytest.fixture
def night(tmp_path):
    night = OneService(tmp_path, Repeating())
    night.rows(row("a", "A"), row("b", "B"))
    return night


def journal(night, *entries):
    with night.journal.open("ab") as file:
        file.write(b"".join(entry.to_line() for entry in entries))


def sha(night, key):
    with check(night.folder / "in.jsonl") as source:
        return source.row(source.ordinal_of(key)).row_sha256


def submitted(night, key, job_id, *more):
    journal(night, Intent(key, 1, sha(night, key), WALL), Submitted(key, 1, job_id, WALL), *more)


def shown(night):
    return {
        key: (one["state"], one["job_id"], (one["error"] or {}).get("code"), one["warnings"])
        for key, one in night.records().items()
    }


OK = ["empty_output"]
UNCONFIRMED = ("unconfirmed", None, "duplicate_job_id", [])


@pytest.mark.parametrize("left", ["journal", "records alone"])
def test_s28_the_id_of_a_row_that_an_earlier_run_finished(night, left):
    night.complete()
    if left == "records alone":
        night.journal.unlink()
    night.rows(row("a", "A"), row("b", "B"), row("c", "A"))
    night.complete(new_journal=left == "records alone")
    assert shown(night)["c"] == UNCONFIRMED
    assert shown(night)["a"] == ("succeeded", "resp_1_A", None, OK)
    night.rows(row("a", "A"), row("b", "B"), row("c", "A"), row("d", "B"))
    night.complete()
    assert shown(night)["d"] == UNCONFIRMED, "the same two runs later"


def test_s28_the_id_of_an_attempt_that_ended_in_an_earlier_run(night):
    night.open()
    night.close()
    ended = AttemptEnded("a", 1, "resp_x", "internal_error", "server_error", "unknown", WALL, WALL)
    submitted(night, "a", "resp_x", ended)
    night.wire.jobs["resp_x"] = "B"
    night.complete()
    assert shown(night) == {"a": ("succeeded", "resp_2_A", None, OK), "b": UNCONFIRMED}


def test_p19_a_poll_of_a_resumed_job_that_names_a_job_of_the_earlier_run(night):
    night.rows(row("a", "A"))
    night.complete()
    night.rows(row("a", "A"), row("b", "B"))
    submitted(night, "b", "resp_b")
    polls = night.wire.polls

    def answer(job_id, status):
        return Wire.answer(night.wire, "resp_1_A" if len(polls) < 5 else job_id, status)

    night.wire.jobs["resp_b"], night.wire.answer = "B", answer
    night.complete()
    assert shown(night)["b"] == ("succeeded", "resp_b", None, OK)
    assert night.wire.posts == ["A"]
    assert len(polls) == 5


def test_s28_equal_rows_share_a_job_also_with_one_of_an_earlier_run(night):
    night.repeats_ids = True
    night.rows(row("a", "A"), row("b", "B"), row("b2", "B"))
    night.complete()
    assert shown(night)["b2"][:3] == ("succeeded", "resp_2_B", None)
    assert "shared_job" in shown(night)["b2"][3]
    other = json.dumps({"custom_id": "d", "body": {"model": "gpt-5", "input": "B", "temperature": 1}}) + "\n"
    night.rows(row("a", "A"), row("b", "B"), row("b2", "B"), row("c", "A"), other)
    night.complete()
    assert shown(night)["c"] == ("succeeded", "resp_1_A", None, ["shared_job", *OK])
    assert shown(night)["d"] == UNCONFIRMED, "another body"


def test_s28_a_body_that_was_changed_since_it_was_sent_is_equal_to_none(night):
    night.repeats_ids = True
    night.complete()
    night.rows(row("a", "C"), row("b", "B"), row("c", "C"))
    night.wire.jobs["resp_1_A"] = "C"
    night.complete(accept_changes=True)
    assert shown(night)["c"] == UNCONFIRMED


@pytest.mark.parametrize("path", [None, "collect"])
@pytest.mark.parametrize("repeats_ids", [True, False])
def test_a_shared_job_is_collected_after_a_crash_for_each_of_its_rows(night, path, repeats_ids):
    night.repeats_ids = repeats_ids
    night.rows(row("a", "A"), row("b", "A"))
    night.open()
    night.close()
    night.wire.jobs["resp_x"] = "A"
    for key in ("a", "b"):
        submitted(night, key, "resp_x")
    night.complete(path)
    assert night.wire.posts == []
    if repeats_ids:
        assert shown(night) == dict.fromkeys("ab", ("succeeded", "resp_x", None, ["shared_job", *OK]))
    else:
        assert shown(night) == {"a": ("succeeded", "resp_x", None, OK), "b": UNCONFIRMED}


def test_equal_requests_have_one_hash_whatever_their_rows_are_called(tmp_path):
    path = tmp_path / "in.jsonl"
    lines = [
        {"custom_id": "a", "body": {"model": "m", "input": "x"}, "metadata": {"n": 1}},
        {"custom_id": "b", "body": {"model": "m", "input": "x"}},
        {"model": "m", "input": "x"},
        {"custom_id": "c", "model": "m", "input": "x"},
        {"custom_id": "d", "model": "m", "input": "y"},
        {"custom_id": "e", "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with check(path) as source:
        bodies = [source.body(ordinal) for ordinal in range(len(lines))]
    assert len({body.hash() for body in bodies[:2]}) == 1
    assert {body.hash() for body in bodies[:4]}.isdisjoint({bodies[4].hash(), bodies[5].hash()})
    assert Prepared("/a", b"{}").hash() != Prepared("/b", b"{}").hash()
    assert all(-(2**63) <= body.hash() < 2**63 for body in bodies)


@pytest.mark.parametrize("ids", [["a"], ["a", "b"], ["resp_x"]])
def test_a_run_that_only_cancels_knows_which_rows_still_want_a_shared_job(night, ids):
    night.repeats_ids = True
    night.rows(row("a", "A"), row("b", "A"))
    night.open()
    night.close()
    night.wire.jobs["resp_x"], night.wire.status = "A", "in_progress"
    for key in ("a", "b"):
        submitted(night, key, "resp_x")
    batch = night.open("collect")
    Path(night.names.requests).write_text(json.dumps(cancel_request(ids, batch.header.run_id, WALL)) + "\n")
    wire, settings = night.wire, night.settings()
    try:

        async def main():
            runner = Runner(batch, None, night.service(), wire, settings, Observer(), only_cancels=True, wall=WALL)
            return await asyncio.wait_for(runner.run(), 50)

        assert asyncio.run(main()) is Outcome.COMPLETE
    finally:
        night.close()
    ended = ["a"] if ids == ["a"] else ["a", "b"]
    assert night.states() == dict.fromkeys(ended, "cancelled")
    assert set(wire.cancels) == (set() if ids == ["a"] else {"resp_x"})
