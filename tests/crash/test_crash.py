"""PROTOCOL's promises under a crash at every event: the real core and tapes on a disk of paper and a simulated service.

`--long` runs 100,000 trials, and every event of each seed instead of every fifth.
"""

import time

import pytest

from tests.crash.idempotent import (
    MADE_LATE,
    REFUSED_LATE,
    REPLAYED,
    ForgetfulProcess,
    Idempotent,
    IdempotentProcess,
    IdempotentTrials,
)
from tests.crash.mixed_up import MIXED, MixedUp, MixedUpProcess
from tests.crash.sharing import LOST, OVER, RUNNING, Sharing, SharingProcess
from tests.crash.trials import CRASH_TABLE, PAID_AGAIN, PAID_ONCE, UNCONFIRMED, Trials

TRIALS = 5_000


@pytest.mark.timeout(1800)
def test_crash_trials_break_no_promise(long, capsys):
    trials = Trials()
    started = time.process_time()
    seed = 0
    while trials.trials < (100_000 if long else TRIALS):
        trials.of_seed(seed, stride=1 if long else 5, phase=seed)
        seed += 1
    spent = time.process_time() - started
    with capsys.disabled():
        print(f"\n{trials.trials} crash trials from {seed} runs in {spent:.0f} s, 0 violations; met (kill, power cut):")
        for row in CRASH_TABLE:
            print(f"  {row:32} {trials.met[row, 'kill']:6} {trials.met[row, 'power']:6}")
        print(
            f"  files in the end: {trials.files_met['named']} named, {trials.files_met['kept']} kept without a payload"
        )
        told = ", ".join(f"{count} {what}" for what, count in trials.tried_again.most_common())
        print(f"  rows that were asked for again, in the end: {told}")
    assert min(trials.tried_again[what] for what in (PAID_ONCE, PAID_AGAIN, UNCONFIRMED)) >= 50
    assert min(trials.met[row, way] for row in CRASH_TABLE for way in ("kill", "power")) >= 50
    assert trials.files_met["named"] >= 50
    assert trials.files_met["kept"] >= 5


def test_a_crash_at_every_event_of_one_run():
    trials = Trials(rows=6)
    trials.of_seed(1, stride=1)
    assert trials.trials > 100


def test_a_service_that_repeats_and_swaps_ids_gives_no_row_what_is_another_rows(long, capsys):
    """No row has another row's result or failure, and none is sent again for another row's failure."""
    MixedUp.met.clear()
    trials = Trials(MixedUpProcess)
    started = time.process_time()
    seed = 0
    while trials.trials < (20_000 if long else 1_000):
        trials.of_seed(seed, stride=1 if long else 7, phase=seed)
        seed += 1
    spent = time.process_time() - started
    with capsys.disabled():
        print(f"\n{trials.trials} crash trials with ids repeated and swapped in {spent:.0f} s, 0 violations; met:")
        for what in MIXED:
            print(f"  {what:60} {MixedUp.met[what]:7}")
    assert min(MixedUp.met[what] for what in MIXED) >= 50


def test_rows_that_share_a_job_each_get_its_result_whatever_ends_the_run(long, capsys):
    Sharing.met.clear()
    trials = Trials(SharingProcess)
    started = time.process_time()
    seed = 0
    while trials.trials < (20_000 if long else 500):
        trials.of_seed(seed, stride=1 if long else 7, phase=seed)
        seed += 1
    spent = time.process_time() - started
    met = ", ".join(f"{count} {what}" for what, count in Sharing.met.items())
    with capsys.disabled():
        print(f"\n{trials.trials} crash trials with shared jobs in {spent:.0f} s, 0 violations; shared: {met}")
    assert min(Sharing.met[what] for what in (RUNNING, OVER, LOST)) >= 50


@pytest.mark.parametrize(("trials", "process"), [(IdempotentTrials, IdempotentProcess), (Trials, ForgetfulProcess)])
def test_a_lost_response_costs_nothing_twice_at_a_service_that_keeps_idempotency_keys(trials, process, long, capsys):
    """No row gets a second job; and while the keys are kept, none ends as unconfirmed whatever ends the run."""
    Idempotent.met.clear()
    found = trials(process)
    started = time.process_time()
    seed = 0
    while found.trials < (10_000 if long else 120):
        found.of_seed(seed, stride=7 if long else 17, phase=seed)
        seed += 1
    spent = time.process_time() - started
    met = ", ".join(f"{count} {what}" for what, count in Idempotent.met.items())
    with capsys.disabled():
        print(f"\n{found.trials} crash trials with idempotency keys in {spent:.0f} s, 0 violations; sent again: {met}")
    assert min(Idempotent.met[what] for what in (REPLAYED, MADE_LATE, REFUSED_LATE)) >= 30
