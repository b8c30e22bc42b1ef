"""Files that commit 4def7fb wrote are read, and written again byte for byte, but for keys that were added since; `generate.py` tells how they were made."""

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

import batchrun
from batchrun.core.journal.entries import Entry, mark
from batchrun.core.journal.fold import fold
from batchrun.core.records.artifacts import Artifact
from batchrun.core.records.record import RecordLine, Response, moment, seconds_between
from tests.e2e.stage import ENVIRONMENT, PATIENT, Batch, serving
from tests.golden.generate import KEY, digests, moved, tags

LATER = b',"refusals":null,"tool_errors":[]}'  # keys that were added since, at the end, as they stand in the record of a row without any

HERE = Path(__file__).parent
JOURNALS = ("before_rewriting", "finished", "by_hand")
RECORDS = [line for name in ("finished", "by_hand") for line in (HERE / f"{name}.jsonl").read_bytes().splitlines()]
ENTRIES = {one.tag: one for one in Entry.__subclasses__()}
WITH_THE_KEY = {**ENVIRONMENT, "OPENAI_API_KEY": KEY}


def journal_of(name):
    return (HERE / f"{name}.journal").read_bytes()


def test_between_them_they_hold_every_entry_and_every_state():
    assert {tag for name in JOURNALS for tag in tags(journal_of(name))} == ENTRIES.keys()
    states = {json.loads(line)["state"] for line in RECORDS}
    assert states == {state.value for state in batchrun.State}


@pytest.mark.parametrize("name", JOURNALS)
def test_a_journal_is_read_to_its_end(name):
    lines = journal_of(name).splitlines(keepends=True)
    read = fold(lines)
    assert (read.good_to, read.torn, read.corrupt, read.newer_version) == (sum(map(len, lines)), False, False, None)


def test_what_is_known_of_all_rows_after_each_entry_is_what_the_earlier_commit_made_of_it():
    lines = journal_of("before_rewriting").splitlines(keepends=True)
    expected = (HERE / "before_rewriting.digests").read_text().split()
    hashes = {}
    for end, (line, digest) in enumerate(zip(lines, expected, strict=True), 1):
        ((tag, values),) = json.loads(line[9:]).items()
        if tag == "intent":
            hashes[values["key"]] = values["row_sha256"]
        rows = fold(lines[:end]).journaled_rows
        for key in rows.keys() & hashes.keys():  # it forgot the hash with the second attempt
            assert rows[key].row_sha256
            rows[key].row_sha256 = hashes[key]
        assert digests([rows]) == [digest], f"after line {end}, {line}"
    assert "" in hashes.values()


@pytest.mark.parametrize("name", JOURNALS)
def test_each_entry_is_written_as_it_was(name):
    for line in journal_of(name).splitlines(keepends=True):
        ((tag, values),) = json.loads(line[9:]).items()
        assert ENTRIES[tag](**values).to_line() == line
        if tag == "synced":
            assert mark(values["to"]) == line


@pytest.mark.parametrize("line", RECORDS, ids=lambda line: json.loads(line)["custom_id"])
def test_each_record_is_written_as_it_was(line):
    record = batchrun.Record(line)
    response = json.loads(line)["response"]
    submitted, running, finished = moments(record)
    written = RecordLine(
        id=record.id,
        custom_id=record.key,
        state=record.state,
        job_id=record.job_id,
        status=record.status,
        model=record.model,
        retry_count=record.retry_count,
        billing=record.billing,
        billing_reason=record.billing_reason,
        error=record.error,
        output_text=record.text,
        response=response and Response(response["status_code"], record.request_id, part(line, b'"body":')),
        warnings=record.warnings,
        usage=record.usage,
        polls=record.polls,
        attempts=record.attempts,
        submitted_at=moment(submitted),
        running_at=moment(running),
        finished_at=moment(finished),
        queued_s=seconds_between(submitted, running),
        running_s=seconds_between(running, finished),
        metadata=part(line, b'"metadata":', last=True),
        artifacts=tuple(Artifact(**one) for one in record.artifacts),
    )
    assert written.to_json() == line[:-1] + LATER


def part(line, name, *, last=False):
    """The bytes of a value as they stand in the line: bodies and metadata are taken over untouched."""
    start = (line.rindex if last else line.index)(name) + len(name)
    text = line[start:].decode()
    return text[: json.JSONDecoder().raw_decode(text)[1]].encode()


def moments(record):
    """Moments from which the record's times and differences follow: each of those was rounded by itself."""
    times = [moment and moment.timestamp() for moment in (record.submitted_at, record.running_at, record.finished_at)]
    steps = [step / 10_000 for step in range(-4, 5)]  # within the millisecond
    for shifts in itertools.product(steps, repeat=3):
        submitted, running, finished = (time and time + by for time, by in zip(times, shifts, strict=True))
        if (seconds_between(submitted, running), seconds_between(running, finished)) == (
            record.queued_s,
            record.running_s,
        ):
            return submitted, running, finished
    raise AssertionError(f"no moments give the times of {record.key}")


@pytest.fixture
def finished(tmp_path):
    """The finished batch in a folder of its own, at a service that counts requests."""
    with serving(tmp_path) as service:
        batch = Batch(tmp_path, [], "--base-url", service.url, "--model", "gpt-5", "--skip-bad")
        batch.input.write_bytes((HERE / "finished.input.jsonl").read_bytes())
        batch.output.write_bytes((HERE / "finished.jsonl").read_bytes())
        batch.journal.write_bytes(moved(journal_of("finished"), origin=service.url, input=str(batch.input)))
        for file in (batch.output, batch.journal):
            file.chmod(0o600)
        yield batch, service


@PATIENT
@pytest.mark.parametrize("command", [None, ("resume", "--skip-bad"), ("collect",)])
def test_a_finished_batch_is_left_as_it_is_and_nothing_is_sent(finished, command):
    batch, service = finished
    before = batch.journal.read_bytes()
    ended = (
        batch.run("--artifacts", "images", environment=WITH_THE_KEY)
        if command is None  # the same command again
        else batch.tell(*command, "--base-url", service.url, environment=WITH_THE_KEY)
    )
    assert ended.code == 1, ended.said
    assert requests(service) == 0
    assert batch.output.read_bytes() == (HERE / "finished.jsonl").read_bytes()
    after = batch.journal.read_bytes()
    assert after.startswith(before)
    assert set(tags(after[len(before) :])) <= {"started", "synced", "stopped"}


def requests(service):
    counts = service.statistics()
    return counts["posts"] + counts["polls"] + counts["cancels"]


@PATIENT
def test_its_status_counts_the_records(finished):
    batch, service = finished
    told = json.loads(batch.tell("status", "--json").out)
    assert told["states"] == Counter(json.loads(line)["state"] for line in batch.output.read_bytes().splitlines())
    assert told["rows"] == {"total": 26, "done": 26, "open": 0}
    assert told["run"]["state"] == "complete"
    assert requests(service) == 0
