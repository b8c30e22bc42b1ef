"""What the files of a batch show of a service that fails its jobs."""

from itertools import chain

from batchrun.core.journal.entries import AttemptEnded, Intent, Started, Submitted
from batchrun.core.status.own_fault import FailingJobs
from tests.core.status.test_status import NOW, failed, record, stand

BEGUN = [Started(7, NOW - 600, 500)]


def ended(key, at, state="internal_error", attempt=1):
    """The entries of an attempt that ended `at` seconds ago, and is retried."""
    return [
        Intent(key, attempt, "s", NOW - at - 20),
        Submitted(key, attempt, f"resp_{key}_{attempt}", NOW - at - 10),
        AttemptEnded(key, attempt, f"resp_{key}_{attempt}", state, "server_error", "unknown", NOW - at + 1, NOW - at),
    ]


def shown(entries, records=(), *, held=True):
    return stand([*BEGUN, *chain.from_iterable(entries)], records, held=held, process=7).failing


def test_half_of_the_last_jobs_failed_so():
    entries = [ended(f"a{n}", 100 - n) for n in range(30)]
    records = [record(f"b{n}", at=NOW - 300 + n) for n in range(40)]
    assert shown(entries, records) == FailingJobs(30, 50, NOW - 100, "server_error")
    assert shown(entries[:24], records) is None


def test_what_ended_later_counts_whichever_file_shows_it():
    entries = [ended(f"a{n}", 200 - n) for n in range(30)]
    assert shown(entries, [record(f"b{n}", at=NOW - 50 + n) for n in range(40)]) is None
    records = [failed(f"b{n}", "internal_error", "server_error") | {"retry_count": 0} for n in range(30)]
    assert shown([], records).failed == 30


def test_of_each_row_only_the_first_attempt_counts():
    entries = [ended(f"a{n}", 100 - n, attempt=2) for n in range(30)]
    records = [failed(f"b{n}", "internal_error", "server_error") | {"retry_count": 2} for n in range(30)]
    assert shown(entries, records) is None


def test_limits_rows_and_earlier_runs_do_not_count():
    assert shown([ended(f"a{n}", 10, "rate_limited") for n in range(30)]) is None
    assert shown([], [failed(f"b{n}", "rejected", "invalid_prompt") for n in range(30)]) is None
    assert shown([ended(f"a{n}", 700) for n in range(30)]) is None
    assert shown([ended(f"a{n}", 10) for n in range(30)], held=False) is None, "no run is on"
