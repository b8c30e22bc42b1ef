"""What a later batchrun of the same version added to a file stops no reader, and none of them takes it away."""

import orjson
import pytest

from batchrun.core.journal.entries import Intent, Submitted, frame, mark, read_line
from batchrun.runner.cancel import standing, wish_to_cancel
from batchrun.runner.opening.read import read_header
from batchrun.runner.opening.rewrite import rewrite_as_wanted
from batchrun.runner.status import StatusReader
from tests.runner.night import WALL, Night, row
from tests.runner.test_open import begun, refused, sha
from tests.runner.test_repair import flip

EXTRAS = {"of_tomorrow": {"any": ["thing"]}}
UNKNOWN = frame(b'{"of_tomorrow":{"key":"a","spent":"0.1"}}')


def grown(line):
    """The entry on this line with a field more."""
    tag, values = read_line(line)
    return frame(orjson.dumps({tag: values | EXTRAS}))


@pytest.fixture
def night(tmp_path):
    """Row a was sent by a later batchrun; its journal says more than is known here, in every way."""
    night = Night(tmp_path)
    night.rows(row("a", "A"), row("b", "B"))
    begun(night)
    header = night.journal.read_bytes().splitlines(keepends=True)[0]
    entries = (Intent("a", 1, sha(night, "a"), WALL), Submitted("a", 1, "resp_a", WALL))
    lines = [grown(header), UNKNOWN, *(grown(entry.to_line()) for entry in entries)]
    data = b"".join(lines)
    night.journal.write_bytes(data + mark(len(data)))
    night.wire.jobs = {"resp_a": "A"}
    return night


def nothing_was_lost(night):
    lines = night.journal.read_bytes().splitlines(keepends=True)
    assert read_line(lines[0])[1]["of_tomorrow"] == EXTRAS["of_tomorrow"]
    assert lines.count(UNKNOWN) == 1
    assert read_header(night.names).service == "compatible"


def test_a_run_resumes_it_and_cuts_nothing(night):
    before = night.journal.read_bytes()
    night.complete()
    assert (night.wire.posts, set(night.states())) == (["B"], {"a", "b"})
    assert night.journal.read_bytes().startswith(before)
    assert not night.batch.notes


def test_retry_failed_carries_it_on(night):
    night.wire.status = "failed"
    night.complete(retries=0)
    assert set(night.states().values()) == {"internal_error"}
    batch = night.open(retry_failed=())
    rewrite_as_wanted(batch, night.source, night.settings(retry_failed=()))
    night.close()
    assert night.records() == {}
    nothing_was_lost(night)
    night.wire.status = "completed"
    night.complete()
    assert set(night.states()) == {"a", "b"}


def test_repair_keeps_it(night):
    whole = night.journal.read_bytes()
    flip(night.journal, whole.index(b'"submitted"'))
    refused(night, Exception, "--repair")
    night.complete(repair=True)
    nothing_was_lost(night)


def test_status_reads_it(night):
    reader = StatusReader(night.names)
    found = reader.look(WALL)
    reader.close()
    assert (found.jobs, found.done) == (1, 0)


def test_cancel_reads_it(night):
    found = standing(wish_to_cancel(night.names, ["a", "resp_a", "nobody"]))
    assert (found.open, found.sent, found.unknown) == (1, 1, ["resp_a", "nobody"])


def test_a_record_may_hold_more_and_less(night):
    night.output.write_bytes(b'{"custom_id":"a","state":"failed","job_id":"resp_a","of_tomorrow":{}}\n')
    batch = night.open(retry_failed=())
    rewrite_as_wanted(batch, night.source, night.settings(retry_failed=()))
    assert (batch.finished, batch.recovery.open_journaled["a"].again) == ({}, "failed")
    night.close()
