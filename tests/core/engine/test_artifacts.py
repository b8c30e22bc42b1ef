"""Files before records: in what order, what a cancel or a failure in between does to it, and what an earlier run left."""

import json
from base64 import b64encode
from hashlib import sha256

import jsonschema
import pytest

from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import CancelReason, Row
from batchrun.core.jobs.lifecycle import Phase
from batchrun.core.records.artifact_names import row_name
from batchrun.core.records.record import RECORD_SCHEMA
from tests.core.driver import Driver, answer

VALIDATOR = jsonschema.Draft202012Validator(RECORD_SCHEMA)
PNG = b"\x89PNG\r\n\x1a\n" + b"canary of a picture" * 20
GIF = b"GIF89a" + b"another" * 20


def text(data=PNG):
    return b64encode(data).decode()


def image(result, status="completed"):
    return {"type": "image_generation_call", "status": status, "result": result}


def ended(*items, status="completed", **more):
    return lambda job_id, n: answer(200, {"id": job_id, "status": status, "output": list(items), **more})


def drawing(*items, rows=1, **more):
    return Driver(rows, artifacts="files", poll=ended(*(items or (image(text()),))), **more)


def name_of(key, index=0, suffix=".png"):
    return f"{row_name('run', key)}-{index}{suffix}"


def cancel(*keys, reason=CancelReason.USER):
    return m.CancelRequested(frozenset(keys), reason)


def kinds(run, *wanted):
    return [type(one).__name__ for one in run.instructions if isinstance(one, wanted)]


def only(run):
    (record,) = run.records.values()
    VALIDATOR.validate(record)
    return record


def described(data=PNG, key="row-0", index=0, suffix=".png", media_type="image/png"):
    return {
        "file": f"files/{name_of(key, index, suffix)}",
        "media_type": media_type,
        "size": len(data),
        "sha256": sha256(data).hexdigest(),
    }


# --- the order of things ---


def test_a_record_waits_for_its_files_and_names_them():
    run = drawing().run(until=1.4)
    assert run.engine.jobs.in_phase[Phase.STORING] == 1
    assert run.records == {}
    run.run()
    record = only(run)
    assert kinds(run, m.StoreArtifacts, m.Emit, m.DiscardArtifacts) == ["StoreArtifacts", "Emit"]
    assert run.files == {name_of("row-0"): PNG}
    assert record["artifacts"] == [{**described(), "at": "output[0].result"}]
    assert record["response"]["body"]["output"] == [image(described())]
    assert (record["state"], record["warnings"], run.outcome) == ("succeeded", [], m.Outcome.COMPLETE)
    look_answered = run.times("poll")[0] + 0.1
    assert record["finished_at"] == utc(look_answered + 0.5), "the record is written when its files are there"


def utc(seconds):
    from batchrun.core.text import readable as clock

    return clock.utc(1_000_000.0 + seconds)


def test_without_the_setting_everything_stays_in_the_record():
    run = Driver(1, poll=ended(image(text()))).run()
    assert kinds(run, m.StoreArtifacts, m.DiscardArtifacts) == []
    assert only(run)["artifacts"] == []
    assert only(run)["response"]["body"]["output"] == [image(text())]


def test_an_answer_without_files_waits_for_nothing():
    run = Driver(1, artifacts="files").run()
    assert kinds(run, m.StoreArtifacts) == []
    assert (only(run)["artifacts"], only(run)["output_text"]) == ([], "hi")


def test_p13_a_result_wins_over_the_word_beside_it_and_a_failed_tool_has_no_file():
    failed = {"type": "image_generation_call", "status": "failed", "result": None}
    run = drawing(image(text(), "generating"), failed).run()
    record = only(run)
    assert record["artifacts"] == [{**described(), "at": "output[0].result"}]
    assert record["warnings"] == ["tool_failed:image_generation_call"]
    assert record["response"]["body"]["output"][1] == failed


def test_an_image_that_came_with_the_submit():
    body = {"created": 1, "data": [{"b64_json": text()}, {"b64_json": text(GIF)}]}
    run = Driver(1, artifacts="files", submit=lambda key, n: answer(200, {**body, "status": "completed"})).run()
    record = only(run)
    assert [artifact["at"] for artifact in record["artifacts"]] == ["data[0].b64_json", "data[1].b64_json"]
    assert record["artifacts"][1]["media_type"] == "image/gif"
    assert set(run.files) == {name_of("row-0"), name_of("row-0", 1, ".gif")}
    assert run.engine.gate.exposed == 0


def test_what_failed_keeps_its_partial_output_as_files_and_what_is_tried_again_keeps_none():
    partial = ended(image(text()), status="failed", error={"code": "server_error", "message": "late"})
    run = Driver(1, artifacts="files", poll=partial).run()
    record = only(run)
    assert (record["state"], record["retry_count"]) == ("internal_error", 2)
    assert record["warnings"] == ["partial_output"]
    assert kinds(run, m.StoreArtifacts) == ["StoreArtifacts"], "the attempts before it left nothing"
    assert [artifact["file"] for artifact in record["artifacts"]] == [described()["file"]]


# --- what is no base64 ---


@pytest.mark.parametrize("bad", ["no base64 at all", text() + "*", text()[:-1], "AAAA=AAA", "\u00e9" * 8])
def test_what_is_no_base64_stays_where_it_is_and_the_others_become_files(bad):
    run = drawing(image(bad), image(text())).run()
    record = only(run)
    assert record["warnings"] == ["artifact_unreadable"]
    assert record["response"]["body"]["output"] == [image(bad), image(described(index=1))]
    assert [artifact["at"] for artifact in record["artifacts"]] == ["output[1].result"]
    assert set(run.files) == {name_of("row-0", 1)}


# --- a cancel ---


def test_a_cancel_while_its_files_are_being_written_removes_them_before_the_record():
    usage = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
    run = Driver(1, artifacts="files", poll=ended(image(text()), usage=usage)).run(until=1.4)
    assert run.engine.jobs.in_phase[Phase.STORING] == 1
    run.feed(cancel("row-0"))
    assert run.records == {}
    run.run()
    record = only(run)
    assert (record["state"], record["response"], record["artifacts"]) == ("cancelled", None, [])
    assert (record["warnings"], record["usage"]["total_tokens"]) == (["late_completed"], 12)
    assert run.files == {}
    assert kinds(run, m.StoreArtifacts, m.DiscardArtifacts, m.Emit) == ["StoreArtifacts", "DiscardArtifacts", "Emit"]
    assert run.tags("row-0") == ["intent", "submitted", "cancelling", "done"]


def test_a_cancel_before_the_last_look_stores_nothing():
    run = drawing(cancel_settle=0.0).run(until=0.5)
    run.feed(cancel("row-0"))
    run.run()
    assert only(run)["state"] == "cancelled"
    assert kinds(run, m.StoreArtifacts, m.DiscardArtifacts) == []


def test_a_cancel_that_comes_while_surplus_files_are_removed_removes_the_others_too():
    old = name_of("old-0", 3)
    run = Driver(start=False, artifacts="files", poll=ended(image(text())))
    run.files[old] = b"old"
    recover(run, {"old-0": (old,)})
    run.run(until=run.now + 0.01)
    while kinds(run, m.DiscardArtifacts) == []:
        run.run(until=run.now + 0.1)
    assert set(run.files) == {old, name_of("old-0")}
    run.feed(cancel("old-0"))
    run.run(until=run.now + 10)
    assert (run.files, only(run)["state"]) == ({}, "cancelled")


def test_a_deadline_is_no_wish_to_lose_a_result():
    slow = answer(200, {"id": "job_row-0_0", "status": "in_progress"})
    done = ended(image(text()))
    run = Driver(
        1, artifacts="files", deadline=2.0, cancel_settle=0.0, poll=lambda job_id, n: slow if n < 3 else done(job_id, n),
        cancel=lambda job_id, n: answer(409),
    ).run()  # fmt: skip
    assert (only(run)["state"], only(run)["warnings"]) == ("succeeded", ["after_deadline"])
    assert run.files == {name_of("row-0"): PNG}


# --- what an earlier run left ---


def recover(run, files, key="old-0", **changes):
    from batchrun.core.journal.fold import JournaledRow

    journaled = JournaledRow()
    journaled.job_id, journaled.submitted_at = f"job_{key}", 999_940.0
    for name, value in changes.items():
        setattr(journaled, name, value)
    run.take_up([(Row(key), journaled)], {}, 1, 0, 0, 0, files=files)
    return run


def taken_up(poll, *names, **changes):
    run = Driver(start=False, artifacts="files", poll=poll)
    run.files |= dict.fromkeys(names, b"left")
    return recover(run, {"old-0": names}, **changes).run()


def test_files_of_an_earlier_run_are_written_anew_and_those_that_no_record_would_name_are_removed():
    run = taken_up(ended(image(text())), name_of("old-0"), name_of("old-0", 0, ".gif"), name_of("old-0", 1))
    assert run.files == {name_of("old-0"): PNG}
    assert kinds(run, m.StoreArtifacts, m.DiscardArtifacts, m.Emit) == ["StoreArtifacts", "DiscardArtifacts", "Emit"]
    assert only(run)["artifacts"] == [{**described(key="old-0"), "at": "output[0].result"}]


def test_files_of_a_row_that_was_cancelled_meanwhile_are_removed():
    run = taken_up(ended(image(text())), name_of("old-0"), cancel="user")
    assert (only(run)["state"], run.files) == ("cancelled", {})
    assert kinds(run, m.StoreArtifacts, m.DiscardArtifacts, m.Emit) == ["DiscardArtifacts", "Emit"]


def test_files_of_a_row_without_a_payload_are_all_there_is_of_it_and_stay():
    """Its service forgot the result between two runs, or its submit could not be confirmed."""
    run = taken_up(None, name_of("old-0"), job_id=None, open_intent=True)
    record = only(run)
    assert (record["state"], record["artifacts"]) == ("unconfirmed", [])
    assert record["warnings"] == [f"artifact_kept:files/{name_of('old-0')}"]
    assert set(run.files) == {name_of("old-0")}
    assert kinds(run, m.StoreArtifacts, m.DiscardArtifacts) == []


def test_a_row_between_two_attempts_or_with_an_intent_is_cancelled_with_its_files():
    fails = ended(status="failed", error={"code": "server_error", "message": "no"})
    for synced in (True, False):
        run = Driver(start=False, artifacts="files", poll=fails, chance=lambda: 0.5)
        run.files[name_of("old-0")] = b"left"
        recover(run, {"old-0": (name_of("old-0"),)})
        while run.engine.jobs.in_phase[Phase.WAITING] == 0:
            run.run(until=run.now + 0.05)
        if not synced:
            (job,) = run.engine.jobs.unsubmitted.values()
            wake = run.now + 60
            assert [type(one) for one in run.engine.handle(m.TimerFired(), wake)][:1] == [m.Append]
            assert job.phase is Phase.INTENDING
            told = run.engine.handle(cancel("old-0"), wake)
            assert [one.names for one in told if isinstance(one, m.DiscardArtifacts)] == [(name_of("old-0"),)]
            assert job.phase is Phase.STORING
            continue
        run.feed(cancel("old-0"))
        assert run.engine.jobs.in_phase[Phase.STORING] == 1
        run.run(until=run.now + 5)
        assert (only(run)["state"], run.files) == ("cancelled", {})


# --- failures ---


def test_o07_a_store_that_fails_ends_the_run_and_the_next_one_completes_it():
    run = drawing(rows=40, submits=4, concurrency=4, store=lambda name: "no space left" if "row-3" in name else None)
    run.run()
    assert run.outcome is m.Outcome.WRITE_FAILED
    assert [halt for _, halt in run.told] == [m.Halt("write failed", "no space left")]
    assert "row-3" not in run.records
    assert len(run.sent["submit"]) < 12, "nothing is submitted any more"
    assert all(record["artifacts"] for record in run.records.values()), "what was on its way came home"
    assert not run.engine.gate.exposed
    again = Driver(start=False, artifacts="files", poll=ended(image(text())))
    recover(again, {}, key="row-3").run()
    assert only(again)["artifacts"][0]["file"] == f"files/{name_of('row-3')}"
    assert again.sent["submit"] == []


def test_o07_a_result_that_came_with_its_submit_cannot_be_asked_for_again_and_is_written_as_it_came():
    def submit(key, n):
        return answer(200, {"status": "completed", "data": [{"b64_json": text()}]})

    run = Driver(8, artifacts="files", submit=submit, submits=4, store=lambda name: "disk on fire", latency=0.4)
    run.run()
    assert run.outcome is m.Outcome.WRITE_FAILED
    assert len(run.records) == len(run.sent["submit"]) > 1, "every answer has its record, also the later ones"
    for record in run.records.values():
        VALIDATOR.validate(record)
        assert record["response"]["body"]["data"] == [{"b64_json": text()}]
        assert (record["state"], record["artifacts"], record["warnings"]) == ("succeeded", [], ["artifact_not_stored"])
    assert run.files == {}


def test_a_file_that_cannot_be_removed_keeps_its_row_open():
    run = drawing(store=lambda name: None).run(until=1.4)
    run.feed(cancel("row-0"))
    run.store_error = lambda name: "read-only" if name in run.files else None
    run.run()
    assert (run.outcome, run.records) == (m.Outcome.WRITE_FAILED, {})


# --- limits and stops ---


def test_bodies_that_wait_for_their_files_count_as_memory_and_polling_pauses():
    size = len(json.dumps({"result": text(PNG * 50)}))
    run = drawing(image(text(PNG * 50)), rows=6, max_memory=2 * size, storing=30.0, connections=1)
    run.run(until=25.0)
    assert run.engine.jobs.in_phase[Phase.STORING] == 2, "as many as there is room for"
    assert run.engine.jobs.unsynced_records >= 2 * size
    run.run()
    assert (run.outcome, len(run.files), run.engine.jobs.unsynced_records) == (m.Outcome.COMPLETE, 6, 0)


@pytest.mark.parametrize(("mode", "records"), [(m.StopMode.DRAIN, 1), (m.StopMode.NOW, 0)])
def test_a_stop_waits_for_the_files_that_are_being_written_and_a_second_one_does_not(mode, records):
    run = drawing().run(until=1.4)
    run.feed(m.StopRequested(mode))
    run.run()
    assert (run.outcome, len(run.records)) == (m.Outcome.STOPPED, records)


def test_a_stale_report_is_counted_and_dropped():
    run = drawing().run()
    (order,) = (one for one in run.instructions if isinstance(one, m.StoreArtifacts))
    engine = Driver(1, artifacts="files").engine
    engine.handle(m.ArtifactsStored(order.job, order.attempt, ()), 5.0)
    engine.handle(m.ArtifactsFailed(order.job, order.attempt, "late"), 5.0)
    assert (engine.snapshot().stale, engine.outcome) == (2, None)
