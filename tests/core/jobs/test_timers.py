from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from batchrun.core.jobs.job import NEVER, TICKS_PER_SECOND, Job, Row, Timers, WaitsFor
from tests.core.invariants import waiting_in


@given(st.lists(st.floats(0, 100), min_size=1))
def test_jobs_come_in_the_order_of_their_time_and_never_early(times):
    agenda, due = Timers(WaitsFor.POLL), {}
    for i, time in enumerate(times):
        job = Job(Row(str(i)))
        agenda.put(job, time)
        due[job] = time
    last = -1
    while (at := agenda.next_due()) < NEVER:
        assert agenda.take(at - 1 / TICKS_PER_SECOND) is None
        job = agenda.take(at)
        assert due.pop(job) <= at < due.get(job, at) + 101
        assert at >= last
        last = at
    assert due == {}


@given(st.integers(0, 3000), st.permutations(list(WaitsFor)))
def test_a_stale_entry_is_not_taken_for_a_wait_of_another_kind_at_the_same_time(tick, kinds):
    """A poll was planned earlier than at first, and its job failed: at the first time the row may wait for its retry."""
    at = tick / TICKS_PER_SECOND
    first, second = (Timers(kind) for kind in kinds[:2])
    job = Job(Row("a"))
    first.put(job, at)
    first.put(job, at - 1)
    assert first.take(at - 1) is job
    second.put(job, at)
    assert Timers.time_of(job) == at == second.next_due()
    assert waiting_in(first) == []
    assert first.take(at) is None
    assert second.take(at) is job


class AgendaModel(RuleBasedStateMachine):
    """Against a plain dictionary: one time for each job, the last one given."""

    def __init__(self):
        super().__init__()
        self.agenda, self.now = Timers(WaitsFor.POLL), 0.0
        self.jobs = [Job(Row(str(i))) for i in range(6)]
        self.model = {}

    @rule(which=st.integers(0, 5), delay=st.floats(0, 3))
    def put(self, which, delay):
        job = self.jobs[which]
        self.agenda.put(job, self.now + delay)
        self.model[job] = self.now + delay

    @rule(which=st.integers(0, 5))
    def forget(self, which):
        self.agenda.forget(self.jobs[which])
        self.model.pop(self.jobs[which], None)

    @rule(step=st.floats(0, 1))
    def take(self, step):
        self.now += step
        while (job := self.agenda.take(self.now)) is not None:
            assert self.model.pop(job) <= self.now
        assert all(at > self.now - 1 / TICKS_PER_SECOND for at in self.model.values())

    @invariant()
    def agrees(self):
        assert set(waiting_in(self.agenda)) == set(self.model)
        due = self.agenda.next_due()
        assert (due == NEVER) == (not self.model)
        if due < NEVER:
            earliest = min(self.model.values())
            assert earliest <= due <= earliest + 1 / TICKS_PER_SECOND


TestAgenda = AgendaModel.TestCase
