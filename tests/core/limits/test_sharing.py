"""Places that batches share: first come first served, and nobody waits for ever."""

from batchrun.core.limits.gate import Shared


class Member:
    """A batch with rows to send. It asks as the engine does: when called, and after each of its own events."""

    def __init__(self, shared, rows):
        self.shared, self.rows = shared, rows
        self.jobs = 0
        self.called = False
        shared.join(self, self.call)

    def call(self):
        self.called = True

    def turn(self):
        """What the runner does soon after a call."""
        self.called = False
        self.go()
        self.shared.passed(self)

    def go(self):
        while self.rows and self.shared.has_room(self, self.jobs):
            self.rows -= 1
            self.jobs += 1
            self.shared.took(self, 0.0)

    def end_one(self):
        self.jobs -= 1
        self.shared.count(self, self.jobs)
        self.go()


def settle(*members):
    while any(member.called for member in members):
        for member in members:
            if member.called:
                member.turn()


def test_who_waits_is_served_before_who_has():
    shared = Shared(concurrency=2)
    first, second = Member(shared, 10), Member(shared, 2)
    first.go()
    second.go()
    assert (first.jobs, second.jobs) == (2, 0)
    first.end_one()  # it stood in line first, and gets its place again
    settle(first, second)
    assert (first.jobs, second.jobs) == (2, 0)
    first.end_one()
    assert first.jobs == 1, "it does not take its place again before the other"
    settle(first, second)
    assert (first.jobs, second.jobs) == (1, 1)


def test_the_first_in_line_is_called_first_and_all_get_through():
    shared = Shared(concurrency=3)
    members = [Member(shared, 7) for _ in range(4)]
    for member in members:
        member.go()
    most = 0
    while any(member.rows or member.jobs for member in members):
        settle(*members)
        most = max(most, shared.jobs)
        busy = [member for member in members if member.jobs]
        assert busy, "rows wait, nothing is in flight and nobody is called"
        busy[0].end_one()
    assert most == 3


def test_who_is_called_and_does_not_want_passes_it_on():
    shared = Shared(concurrency=1)
    has, gave_up, wants = Member(shared, 1), Member(shared, 1), Member(shared, 1)
    for member in (has, gave_up, wants):
        member.go()
    gave_up.rows = 0  # cancelled while it stood in line
    has.end_one()
    settle(has, gave_up, wants)
    assert wants.jobs == 1


def test_who_leaves_gives_back_what_it_had_and_its_turn():
    shared = Shared(concurrency=1)
    has, next_one, last = Member(shared, 1), Member(shared, 1), Member(shared, 1)
    for member in (has, next_one, last):
        member.go()
    shared.leave(has)
    assert next_one.called
    shared.leave(next_one)  # before it could use its turn
    settle(last)
    assert last.jobs == 1
    shared.leave(last)
    assert (shared.jobs, shared.members) == (0, 0)


def test_without_a_number_there_is_always_room():
    shared = Shared(rpm=60)
    member = Member(shared, 5)
    member.go()
    assert member.jobs == 5
    shared.requests.take(10.0)
    assert shared.requests.ready_at() > 10.9
