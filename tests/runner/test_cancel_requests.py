"""The door of wishes: whatever stands at OUT.requests, a run goes on, and nothing ends that nobody asked for."""

import json
import os
import time
from pathlib import Path

import pytest

from batchrun.edge.cancel_file import LINE_BYTES, append_request, cancel_request
from tests.runner.night import Night, row


@pytest.fixture
def night(tmp_path):
    night = Night(tmp_path)
    night.rows(row("a", "A"), row("b", "B"), row("c", "C"))
    night.open()  # so that there is a run id to write wishes for
    night.close()
    return night


def run_id(night):
    return night.batch.header.run_id


def place(night, *lines):
    with open(night.names.requests, "ab") as file:  # noqa: PTH123 - as anybody may write it
        file.write(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines) + b"\n")


def told(night):
    return [said for said in night.said if "cancel" in said]


@pytest.mark.parametrize("kind", ["link", "folder", "FIFO"])
def test_o04_a_run_goes_on_without_requests_that_it_cannot_read_and_says_so_once(kind, night, tmp_path):
    requests = Path(night.names.requests)
    if kind == "link":
        (tmp_path / "elsewhere").write_text(json.dumps(cancel_request(None, run_id(night), 0.0)) + "\n")
        requests.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        requests.mkdir()
    else:
        os.mkfifo(requests)
    began = time.monotonic()

    def later(_):
        if time.monotonic() - began > 1.3:  # long enough to look for wishes once more
            night.wire.status = "completed"

    night.wire.before = later if kind == "link" else None
    night.wire.status = "in_progress" if kind == "link" else "completed"
    night.complete()
    assert (set(night.states().values()), night.wire.cancels) == ({"succeeded"}, [])
    (said,) = told(night)
    assert said.startswith(
        f"requests of `batchrun cancel` cannot be received: {requests}: expected a regular file, found a"
    )


HOSTILE = {
    "garbage": [b"\0\xff\xfe{[" * 50],
    "a huge line": [b'{"cancel":"all","x":"' + b"x" * (3 * LINE_BYTES) + b'"}'],
    "huge, then whole": [b"x" * (LINE_BYTES + 5), {"cancel": "all", "run_id": "another"}],
    "a deep one": [b"[" * 100_000],
    "other types": [{"cancel": 5}, {"cancel": None}, {"cancel": {"a": 1}}, {"cancel": True}, {"cancel": ["a", 1]}, {}],
    "other words": [{"cancel": "ALL"}, {"cancel": "a"}, {"cancel": ""}, {"cancel": "all "}],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_wish_ends_nothing_and_is_told_once(kind, night):
    ours = [{"run_id": run_id(night), **line} if isinstance(line, dict) else line for line in HOSTILE[kind]]
    place(night, *ours, cancel_request(["b"], run_id(night), 0.0))
    night.complete()
    assert night.states() == {"a": "succeeded", "b": "cancelled", "c": "succeeded"}
    assert (sorted(night.wire.posts), night.wire.cancels) == (["A", "C"], [])
    assert told(night) == [f"{night.names.requests} holds lines that `batchrun cancel` did not write; they are ignored"]
    night.complete()
    assert told(night) == [], "what was passed over once is behind"


@pytest.mark.parametrize("whose", [{"run_id": "another"}, {"run_id": 7}, {"run_id": None}, {}])
def test_a_wish_for_another_batch_is_passed_over(whose, night):
    place(night, {"cancel": "all", **whose}, {"cancel": ["a", "b"], **whose})
    night.complete()
    assert (set(night.states().values()), told(night)) == ({"succeeded"}, [])


def test_a_torn_wish_is_none_until_it_is_whole(night):
    whole = json.dumps(cancel_request(None, run_id(night), 0.0))
    with open(night.names.requests, "w") as file:  # noqa: PTH123
        file.write(whole)
    night.complete()
    assert (set(night.states().values()), told(night)) == ({"succeeded"}, [])


def test_requests_that_were_begun_anew_are_heard_from_their_beginning(night):
    """As after the files were moved without them: what was heard of the old ones says nothing of the new."""
    append_request(night.names.requests, cancel_request(["nobody" * 10], run_id(night), 0.0))
    night.complete(limit=1)
    Path(night.names.requests).unlink()
    append_request(night.names.requests, cancel_request(["b"], run_id(night), 0.0))
    append_request(night.names.requests, cancel_request(["c"], run_id(night), 0.0))
    night.complete()
    assert night.states() == {"a": "succeeded", "b": "cancelled", "c": "cancelled"}
    assert night.wire.posts == ["A"]
