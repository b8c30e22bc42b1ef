"""Journals and outputs that somebody edited: refused or harmless, and after --repair nothing is paid twice or lost.

The real start-up on real files, which a simulated batch left and a seeded hand edited; then the batch is brought to its
end in virtual time. What was written last before a kill, behind the last mark, is not edited: there it leaves no trace.

`--long` runs 5,000 edits.
"""

import json
import random
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from batchrun.core.jobs import messages as m
from batchrun.core.journal.entries import read_line
from batchrun.core.journal.fold import fold
from batchrun.core.rows.parse import BodyFlags
from batchrun.edge.append_file import FileNames, FileRefused
from batchrun.edge.source import check
from batchrun.runner.opening.open import Identity, open_batch
from tests.crash.crashing import JOURNAL, OUTPUT
from tests.crash.startup import lines_of
from tests.crash.trials import Trials
from tests.crash.world import SETTINGS, Process, Violation, first_process, line_of, wreck

EDITS = 1_000
ROWS = 12
IDENTITY = Identity("sim", "sim://", "", {}, lambda _: None)
HARMLESS, NOTED, REPAIRED = "harmless", "finished, and noted", "refused, then repaired"
OLDER = "refused, as rows may have been sent that the journal does not know"
KINDS = ("removed", "doubled", "swapped", "changed", "moved")
FILES = {"journal": (JOURNAL,), "output": (OUTPUT,), "both": (JOURNAL, OUTPUT)}


def last_mark(lines):
    """The number of the last mark that is whole."""
    return max((n for n, line in enumerate(lines) if (read_line(line) or ("",))[0] == "synced"), default=0)


class Hand:
    """Edits lines, and remembers what it did."""

    def __init__(self, rng):
        self.rng = rng
        self.kinds = set()
        self.rows = set()  # whose records are no longer what was written

    def edit(self, data, path, times):
        lines = list(lines_of(data))
        first = 1 if path == JOURNAL else 0
        for _ in range(times):
            end = len(lines)
            if path == JOURNAL:  # behind the last mark, lines leave no trace
                end = last_mark(lines)
            if end - first < 2:
                break
            kind = self.rng.choice(KINDS)
            self.kinds.add(kind)
            getattr(self, kind)(lines, self.rng.randrange(first, end), self.rng.randrange(first, end), path)
        return b"".join(lines)

    def removed(self, lines, one, _, path):
        """A line, some lines, or all that name a row."""
        end = len(lines)
        if path == JOURNAL:
            end = last_mark(lines)
        if self.rng.random() < 0.4:
            row = b'"row-%d"' % self.rng.randrange(ROWS)
            lines[:end] = [line for line in lines[:end] if row not in line]
        else:
            del lines[one : max(one + 1, min(one + self.rng.choice((1, 1, 1, 2, 5, 20)), end))]

    def doubled(self, lines, one, other, _):
        lines.insert(other, lines[one])

    def swapped(self, lines, one, other, _):
        alike = [n for n, line in enumerate(lines[1:], 1) if len(line) == len(lines[one]) and n <= max(one, other)]
        if self.rng.random() < 0.5 and alike:  # so that no mark moves
            other = self.rng.choice(alike)
        elif self.rng.random() < 0.5:
            other = max(one - 1, 1)
        lines[one], lines[other] = lines[other], lines[one]

    def moved(self, lines, one, other, _):
        lines.insert(other, lines.pop(one))

    def changed(self, lines, one, other, path):
        line = lines[one]
        if path == JOURNAL:
            at = self.rng.randrange(len(line) - 1)
            lines[one] = line[:at] + self.rng.choice((b"x", b"", b"12")) + line[at + 1 :]
            return
        try:
            record = json.loads(line)
        except ValueError:
            return
        how = self.rng.randrange(5)
        if how == 0:
            line = json.dumps(record).encode() + b"\n"  # as other tools write it
        elif how == 1:
            line = json.dumps({**record, "output_text": "edited"}).encode() + b"\n"
        elif how == 2:
            line = line[: len(line) // 2] + b"\n"
        elif how == 3:
            line = json.dumps({**record, "custom_id": f"row-{self.rng.randrange(ROWS + 2)}"}).encode() + b"\n"
        else:
            line = (
                json.dumps({**record, "job_id": self.rng.choice(("job_nobody", "job_row-1_0", None))}).encode() + b"\n"
            )
        self.rows |= {record.get("custom_id"), json.loads(line).get("custom_id") if how != 2 else None}
        lines[one] = line


class Editing:
    """One batch after the other is edited and brought to its end."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.names = FileNames.of(self.folder / "out")
        self.input = self.folder / "in.jsonl"
        self.input.write_bytes(b"".join(line_of(f"row-{n}") for n in range(ROWS)))
        self.met = Counter()
        self.edits = 0
        self.trials = Trials(rows=ROWS)

    def of_seed(self, seed):
        """Edits of what is left at several moments of one run, of a run that resumed it, and of one that dropped records."""
        process = first_process(seed, ROWS)
        rng = random.Random(f"edits {seed}")
        for _ in range(rng.randrange(40, 400)):
            process.step()
        self.edit(process, rng)
        resumed = self.trials.take_up(process, *wreck(process, "kill", rng), "kill", rng)
        for _ in range(rng.randrange(10, 200)):
            resumed.step()
        self.edit(resumed, rng)
        process.run()
        self.edit(process, rng)
        again = self.trials.take_up(process, *wreck(process, "kill", rng), "kill", rng, retry=1.0)
        for _ in range(rng.randrange(5, 100)):
            again.step()
        self.edit(again, rng)

    def edit(self, process, rng):
        paper, service, truth = wreck(process, "kill", rng)
        before = {path: bytes(paper.names[path].data) for path in (JOURNAL, OUTPUT)}
        hand = Hand(rng)
        which = rng.choice(("journal", "journal", "journal", "output", "output", "both"))
        times = rng.choice((1, 1, 1, 2, 4))
        after = dict(before)
        for path in FILES[which]:
            after[path] = hand.edit(before[path], path, times)
        if after == before:
            return
        self.edits += 1
        where = f"seed {process.seed}, edit {self.edits} ({which}, {sorted(hand.kinds)}): "
        try:
            found, outcome = self.opened(after)
            self.met[which, outcome] += 1
            if found is None:
                return
            for path, name in ((JOURNAL, self.names.journal), (OUTPUT, self.names.output)):
                paper.names[path].data[:] = paper.names[path].durable = Path(name).read_bytes()
            state, recovery = found
            self.trials.note_heard(
                process, type("Found", (), {"state": state, "recovery": recovery}), service, truth, "kill"
            )
            resumed = Process(process.seed, process.rows, paper, service, truth, process.now + 0.6)
            finished = dict(recovery.finished)
            resumed.start(recovery, state)
            outcome_of_run = resumed.run()
            assert outcome_of_run is m.Outcome.COMPLETE, outcome_of_run
            self.check(resumed, before, after, hand, which, finished, noted=outcome == NOTED)
        except (Violation, AssertionError, KeyError) as error:
            raise Violation(where + str(error)) from error

    def opened(self, after):
        """What start-up makes of the files, with --repair if it refused them; None where it has to refuse them for good."""
        for name in self.folder.iterdir():
            if name != self.input:
                name.unlink()
        for path, name in ((JOURNAL, self.names.journal), (OUTPUT, self.names.output)):
            Path(name).write_bytes(after[path])
            Path(name).chmod(0o600)
        try:
            state, recovery, notes = self.open()
            return (state, recovery), NOTED if any("edited" in str(note) for note in notes) else HARMLESS
        except FileRefused as refusal:
            assert {name: Path(name).read_bytes() for name in (self.names.journal, self.names.output)} == {
                self.names.journal: after[JOURNAL],
                self.names.output: after[OUTPUT],
            }, "a refusal changes nothing"
            told = str(refusal)
            if "older than the output" in told:
                return None, OLDER
            assert "byte" in told, told
            assert "--repair" in told, told
            return self.open(repair=True)[:2], REPAIRED

    def open(self, **given):
        source = check(self.input, BodyFlags())
        try:
            batch = open_batch(self.names, source, IDENTITY, replace(SETTINGS, artifacts=None, **given), wall=0.0)
            batch.close()
            return batch.state, batch.recovery, batch.notes
        finally:
            source.close()

    def check(self, process, before, after, hand, which, finished, *, noted):
        """The promises."""
        service, truth = process.service, process.truth
        lines = process.paper.names[OUTPUT].durable.splitlines()
        records = [orjson.loads(line) for line in lines]
        by_key = {record["custom_id"]: record for record in records}
        keys = {row.key for row in process.rows}
        assert keys <= by_key.keys(), f"rows without a record: {keys - by_key.keys()}"
        if not noted:  # else it was finished, and left as it was
            assert len(by_key) == len(records), "a row has two records"
            assert all(by_key[key]["job_id"] is None for key in by_key.keys() - keys), "a row is not of the batch"
        if service.violations:
            raise Violation("; ".join(service.violations))
        original = fold(lines_of(before[JOURNAL]))
        known = [line for line in lines_of(after[JOURNAL]) if read_line(line)]
        known += [line for line in lines_of(after[OUTPUT]) if line.endswith(b"\n")]  # the beginning of one says nothing
        excused = set(truth.ambiguous) | {
            key for key, row in original.journaled_rows.items() if row.open_intent or row.unconfirmed
        }
        if which != "output" and hand.kinds - {"doubled"}:
            excused |= keys - finished.keys()
        for key in keys - hand.rows:
            record = by_key[key]
            self.trials.check_whose(key, record, service, "")
            if record["state"] == "unconfirmed" and key not in excused:
                raise Violation(f"{key} is unconfirmed, and nothing of it was lost: {record}")
            journaled = original.journaled_rows.get(key)
            job = service.jobs.get(journaled.job_id or "") if journaled is not None else None
            if job is None or record["state"] in ("succeeded", "incomplete"):
                continue
            if not any(f'"{job.id}"'.encode() in line and f'"{key}"'.encode() in line for line in known):
                continue  # no line is left that could tell whose it is
            if job.status(process.now) == "completed" and key not in truth.cancelled and not journaled.cancel:
                raise Violation(f"{key} has a result, {job.id}, and its record says {record['state']}: {record}")


@pytest.mark.timeout(900)
def test_o25_o26_a_thousand_hand_edits_are_refused_or_harmless_and_nothing_is_paid_twice_or_lost(long, capsys):
    started = time.process_time()
    shared_memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared_memory if shared_memory.is_dir() else None) as folder:
        editing = Editing(folder)
        seed = 0
        while editing.edits < (5_000 if long else EDITS):
            editing.of_seed(seed)
            seed += 1
    spent = time.process_time() - started
    with capsys.disabled():
        print(f"\n{editing.edits} hand edits of {seed} batches in {spent:.0f} s, 0 violations:")
        for (which, outcome), count in sorted(editing.met.items()):
            print(f"  {which:8} {outcome:68} {count:5}")
    assert min(editing.met[which, REPAIRED] for which in FILES) >= 50
    assert min(editing.met[which, HARMLESS] for which in ("journal", "output")) >= 10
    assert editing.met["output", NOTED] >= 10
