"""Mutants must die: each takes one safeguard away, and the crash trials must notice.

A proof that cannot fail proves nothing. Each mutant here is the engine, the disk or the start-up with one
line of PROTOCOL left out.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest

from batchrun.core.engine import endings as retries
from batchrun.core.engine import polls
from batchrun.core.engine.submits import Submits
from batchrun.core.jobs import messages as m
from batchrun.core.jobs.ended_ids import EndedIds
from batchrun.core.jobs.jobs import Jobs
from batchrun.core.journal import entries as ledger
from batchrun.core.journal import recover as recovery
from batchrun.edge.append_file import Lines, rewrite
from tests.crash import startup
from tests.crash.idempotent import Idempotent, IdempotentProcess
from tests.crash.mixed_up import MixedUpProcess
from tests.crash.sharing import SharingProcess
from tests.crash.startup import Startup
from tests.crash.trials import Trials
from tests.crash.world import SETTINGS, Process, Violation, keys_in

BUDGET = 4_000  # trials after which a mutant counts as alive


class NoFsync(Process):
    """Synced is reported as soon as the kernel was given the lines."""

    def sync(self, kind):
        group = None if self.under_way[kind] else self.tapes[kind].file.gather()
        if group is not None:
            group.write()
            self.schedule(0.0, lambda: self.reported(kind, group))

    def reported(self, kind, group):
        self.tapes[kind].file.settle(group)
        if kind is m.BatchFile.OUTPUT:
            self.truth.done |= keys_in(group.data)
        self.under_way[kind] = group
        self.schedule(0.05, lambda: self.landed(kind, group))
        return m.Synced(kind, self.safe[kind])

    def landed(self, kind, group):
        group.sync()
        self.under_way[kind] = None
        return m.TimerFired()


class Retrying(Process):
    """The wire sends a POST again when its answer is lost."""

    def submitted(self, job, attempt, answer):
        event = super().submitted(job, attempt, answer)
        if isinstance(event, m.SubmitFailed):
            event = super().submitted(job, attempt, self.service.post(job.key, self.now))
        return event


def dropping(entry_class):
    """An engine whose journal never gets the entries of a kind; all that waits for them goes on."""

    def append(self, entry, job, then=None, *, lazy=False):
        if not isinstance(entry, entry_class):
            return real_append(self, entry, job, then, lazy=lazy)
        return real_append(self, ledger.Started(0, 0.0), job, then, lazy=lazy)

    return [(Jobs, "append", append)]


real_append = Jobs.append
real_enter = Submits.enter
real_rewrite = rewrite
real_begin_cancel = polls.Polls.begin_cancel


def intent_not_awaited(self, entry, job, then=None, *, lazy=False):
    if isinstance(entry, ledger.Intent):
        real_append(self, entry, job, lambda _: None, lazy=True)
        then(job)
    else:
        real_append(self, entry, job, then, lazy=lazy)


def intent_before_the_turn(self, job):
    """Every row's intent is written as soon as the row is read."""
    self._jobs.append(ledger.Intent(job.key, job.attempt, "", self._jobs.wall), job)
    real_enter(self, job)


def cancel_not_awaited(self, job):
    """A cancel is sent at once, while its entry is on its way to the disk."""
    real_begin_cancel(self, job)
    if not job.history.cancel_sent:
        self._send_cancel(job)


class RecordBeforeItsFiles(Process):
    """A record is written as soon as its files have their names."""

    def store(self, job, attempt, writing):
        def published():
            writing.write()
            writing.publish()
            self.exchange(0.02, synced)
            return m.ArtifactsStored(job, attempt, tuple(writing.stored))

        def synced():
            self.shelf.sync()

        self.exchange(0.05, published)


class FilesNotSynced(Process):
    """Files get their names, and their content is on its way to the disk."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.shelf = replace(self.shelf, disk=replace(self.shelf.disk, sync=lambda descriptor: None))


class FilesStay(Process):
    """Nothing is removed."""

    def discard(self, job, attempt, names):
        self.schedule(0.01, lambda: m.ArtifactsDiscarded(job, attempt, names))


class FilesNotLookedFor(Process):
    """What an earlier run left in the folder is forgotten."""

    def left(self, recovery):
        super().left(recovery)
        return {}


class HeardFirst(Process):
    """A wish counts as heard before what it brings is written."""

    def read_wish(self, number):
        event = super().read_wish(number)
        heard = ledger.RequestsAccepted(number + 1, event.keys is None)
        self.tapes[m.BatchFile.JOURNAL].file.append(heard.to_line())
        self.schedule(0.1, lambda: event)
        return m.TimerFired()


class ReportedBeforeSync(Process):
    """A row is reported done when its record is given to the tape."""

    def carry_out(self, instruction):
        super().carry_out(instruction)
        if isinstance(instruction, m.Emit):
            self.truth.done.add(json.loads(instruction.line)["custom_id"])


class NoTailCut(Startup):
    def cut(self, found, disk):
        pass


class PlacesKept(Startup):
    """The markers of records that are gone stay as they are."""

    def forget(self, found, disk):
        pass


class MarkIgnored(Startup):
    """Without marks a bad line before a good one can only be taken for corruption."""

    def fold(self, journal):
        state = super().fold(journal)
        rest = journal[state.good_to :].split(b"\n")[1:]
        state.corrupt = state.torn and any(ledger.read_line(line + b"\n") for line in rest)
        return state


class PaidUnseen(Startup):
    """Rows whose failed record was dropped come back as if they had never been sent."""

    def rewrite(self, found, order, disk, *, announced):
        for key in order.keys:
            found.state.journaled_rows.pop(key, None)
        super().rewrite(found, order, disk, announced=announced)


class NotAnnounced(Startup):
    """A rewriting begins without saying so in the journal."""

    def rewrite(self, found, order, disk, *, announced):
        super().rewrite(found, order, disk, announced=True)


def journal_first(names, *, announce, output, journal, mark, disk):
    """The new journal takes its place before the new output does."""
    lines = list(journal)
    real_rewrite(names, announce=announce, output=None, journal=lines, mark=mark, disk=disk)
    real_rewrite(names, announce=None, output=output, journal=lines, mark=mark, disk=disk)


def all_counted(self, upto):
    """Lines that were given while a sync ran count as synced by it."""
    self.count += len(self._offsets)
    self._offsets.clear()
    self._safe(self.count)


def always(*_):
    return True


def never(*_):
    return False


def nobodys(*_):
    return None


class Resubmitting(Process):
    settings = replace(SETTINGS, resubmit_unconfirmed=True)


class ForgetsAtOnce(Idempotent):
    keeps = 0.5


class Overdue(IdempotentProcess):
    """Keys are sent again without regard to the time for which the service keeps them."""

    service_class = ForgetsAtOnce


class OtherKey(IdempotentProcess):
    """The key of a POST is made of something that the next run does not know."""

    def key_of(self, job, attempt):
        return f"{super().key_of(job, attempt)} {self.now}"


def believed(self, job, refused):
    """A row that is refused when it is sent again counts as one that was never accepted."""
    self._resends.forget(job)
    self._clear(job)
    self._end_refused(job, refused)


class Mutant(NamedTuple):
    """What is taken away, and what the trials say when they notice."""

    name: str
    noticed: str
    patches: Sequence[tuple] = ()
    process: type[Process] = Process
    startup: Startup | None = None
    first: int = 0  # a seed from which it takes few trials


MUTANTS = [
    Mutant("no fsync", "reported done|acknowledged|POSTed again|nobody knows", process=NoFsync),
    Mutant("intent not awaited", "POSTed again|nobody knows", [(Jobs, "append", intent_not_awaited)]),
    Mutant("no intent", "POSTed again|nobody knows", dropping(ledger.Intent)),
    Mutant(
        "intent before the turn", "rows unconfirmed|looks like corruption", [(Submits, "enter", intent_before_the_turn)]
    ),
    Mutant("resubmit unconfirmed", "POSTed again|nobody knows", process=Resubmitting),
    Mutant("POST retried below", "POSTed again", process=Retrying),
    Mutant("`ended` not written", "nobody knows|looks like corruption", dropping(ledger.AttemptEnded)),
    Mutant("ack not written", "rows unconfirmed|nobody knows", dropping(ledger.Submitted)),
    Mutant("no tail cut", "no JSON|looks like|torn line", startup=NoTailCut()),
    Mutant("places of missing records kept", "looks like a changed output", startup=PlacesKept()),
    Mutant("`synced` mark ignored", "looks like corruption", startup=MarkIgnored()),
    Mutant(
        "cancelled payload kept",
        "reached a file",
        [(retries, "keeps_payload", always), (polls, "keeps_payload", always)],
    ),
    Mutant("cancel not journaled", "acknowledged|in hand", dropping(ledger.Cancelling)),
    Mutant("heard before its entries", "acknowledged|in hand", process=HeardFirst),
    Mutant("reported before sync", "reported done", process=ReportedBeforeSync),
    Mutant(
        "markers believed",
        "without a record|no JSON|finished or lost rows|reported done|called good|looks like",
        [(recovery, "_fits", always)],
    ),
    Mutant("record before its files are synced", "names a file", process=RecordBeforeItsFiles),
    Mutant("files not synced", "names a file", process=FilesNotSynced),
    Mutant("files of the cancelled stay", "reached a file|no record names", process=FilesStay),
    Mutant("files not looked for", "reached a file|no record names", process=FilesNotLookedFor),
    # beyond PROTOCOL §4's list: what rewriting, cancels and the tapes add
    Mutant("retried without a look", "POSTed again|nobody knows", startup=PaidUnseen()),
    Mutant("rewriting not announced", "written off", startup=NotAnnounced(), first=40),
    Mutant("journal renamed first", "counts as done", [(startup, "rewrite", journal_first)]),
    Mutant("cancel not awaited", "acknowledged", [(polls.Polls, "begin_cancel", cancel_not_awaited)], first=5),
    # what a service does that repeats ids and swaps them
    Mutant(
        "another row's poll believed",
        "another row's|POSTed again",
        [(polls.Polls, "_is_anothers", nobodys)],
        MixedUpProcess,
    ),
    Mutant(
        "another row's job accepted",
        "another row's|nobody knows|POSTed again",
        [(Submits, "_is_anothers", never)],
        MixedUpProcess,
    ),
    Mutant(
        "ids of ended jobs forgotten",
        "another row's|POSTed again|says its record",
        [(EndedIds, "add", never)],
        MixedUpProcess,
    ),
    Mutant(
        "POSTs in flight not awaited",
        "another row's|POSTed again",
        [(Jobs, "in_flight_since", nobodys)],
        MixedUpProcess,
    ),
    Mutant("a shared job cancelled", "still want it", [(Jobs, "is_wanted_by_others", never)], SharingProcess),
    Mutant("retried after its own job", "its own job was named", [(Jobs, "is_watched", never)], MixedUpProcess),
    # what follows where a service keeps idempotency keys
    Mutant("a key sent again after its time", "has forgotten", process=Overdue),
    Mutant("another key for the same POST", "POSTed again", process=OtherKey),
    Mutant(
        "a refusal of what was sent before believed",
        "nobody knows",
        [(Submits, "_refused_again", believed)],
        IdempotentProcess,
    ),
    Mutant("lines miscounted", "reported done|nobody knows|POSTed again", [(Lines, "_synced", all_counted)]),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_dies(mutant, monkeypatch):
    for where, name, replacement in mutant.patches:
        monkeypatch.setattr(where, name, replacement)
    trials = Trials(mutant.process, mutant.startup)
    with pytest.raises(Violation, match=mutant.noticed):
        for seed in range(mutant.first, mutant.first + BUDGET):
            trials.of_seed(seed, stride=7, phase=seed)
            assert trials.trials < BUDGET, "the mutant lives"


def test_the_promises_of_protocol_have_their_mutants():
    assert len({mutant.name for mutant in MUTANTS}) == 15 + 5 + 5 + 6 + 3, (
        "of files, of rewriting, cancels and tapes, of ids, of keys"
    )
