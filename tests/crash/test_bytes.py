"""Every byte and every bit of real files, written through the tapes by a simulated batch."""

import random
from zlib import crc32

import orjson
import pytest

from batchrun.core.jobs import messages as m
from batchrun.core.journal.fold import JournaledRow, fold
from batchrun.core.journal.recover import recover
from tests.crash.crashing import JOURNAL, OUTPUT, copied
from tests.crash.startup import Startup, lines_of
from tests.crash.trials import Trials
from tests.crash.world import Truth, first_process
from tests.edge.paper_disk import PaperDisk

# Of three rows, chosen so that the batch has what a batch can have.
SEED, ROWS = 144, 3


def finished_batch(seed, rows):
    """The process, journal and output of a batch that ran to its end undisturbed."""
    process = first_process(seed, rows)
    process.run()
    content = process.paper.content()
    return process, content[JOURNAL], content[OUTPUT]


def facts(journaled_rows):
    return {
        key: tuple(getattr(journaled, name) for name in JournaledRow.__slots__)
        for key, journaled in journaled_rows.items()
    }


def tags_of(journal):
    return {next(iter(orjson.loads(line[9:]))) for line in journal.splitlines()}


def test_the_batch_that_is_cut_has_every_kind_of_entry():
    _, journal, output = finished_batch(SEED, ROWS)
    wanted = {
        "header",
        "started",
        "synced",
        "intent",
        "submitted",
        "done",
        "cancelling",
        "ended",
        "cleared",
        "unconfirmed",
    }
    assert tags_of(journal) >= wanted
    assert len({orjson.loads(line)["state"] for line in output.splitlines()}) > 1


def test_a_process_killed_at_every_byte_that_it_writes_keeps_every_promise():
    trials = Trials(rows=ROWS)
    process = first_process(SEED, ROWS)
    rng = random.Random(1)
    seen: dict = {}
    cuts = 0
    while process.step():
        for kind, path in ((kind, tape.file.path) for kind, tape in process.tapes.items()):
            group = process.under_way[kind]
            if group is None or seen.get(kind) is group:
                continue
            seen[kind] = group
            for cut in range(len(group.data) + 1):
                paper, service, truth = copied(process.paper), process.service.copy(), process.truth.copy()
                del paper.names[path].data[group.start + cut :]
                for arrives_at, key in process.posts if cut % 2 else ():
                    service.post(key, arrives_at)
                truth.crashes += 1
                trials.finish(trials.take_up(process, paper, service, truth, "kill", rng, retry=0.0))
                cuts += 1
    process.run()
    written = process.paper.content()
    assert cuts > 0.9 * (len(written[JOURNAL]) + len(written[OUTPUT])), "but for the lazy lines of the end"


def test_o12_a_finished_journal_cut_at_every_byte_folds_to_its_prefix_and_costs_no_request():
    process, journal, output = finished_batch(SEED, ROWS)
    header = journal.index(b"\n") + 1
    trials = Trials(rows=ROWS)
    refused = 0
    for size in range(len(journal)):
        cut = journal[:size]
        whole = journal[: cut.rfind(b"\n") + 1]
        paper = PaperDisk({JOURNAL: cut, OUTPUT: output})
        found = Startup().look(paper)
        assert facts(found.state.journaled_rows) == facts(fold(lines_of(whole)).journaled_rows)
        assert (found.state.good_to, found.state.corrupt) == (len(whole), False)
        if size < header:
            assert found.state.header is None, "what has no header is refused"
            continue
        if found.recovery.doubts or found.recovery.strangers:
            refused += 1  # an output that is newer than its journal
            continue
        service = process.service.copy()
        truth = Truth(ambiguous=process.truth.ambiguous, crashes=1)
        resumed = trials.take_up(process, paper, service, truth, "kill", random.Random(size), retry=0.0)
        assert resumed.run() is m.Outcome.COMPLETE
        assert paper.content()[OUTPUT] == output
        assert (service.posts, resumed.engine.polls.polls) == (process.service.posts, 0)
    assert 0 < refused < len(journal) * 0.9


def test_o03_o12_a_finished_output_cut_at_every_byte_is_fetched_again_and_nothing_is_paid_twice():
    process, journal, output = finished_batch(SEED, ROWS)
    trials = Trials(rows=ROWS)
    for size in range(len(output)):
        paper = PaperDisk({JOURNAL: journal, OUTPUT: output[:size]})
        found = Startup().look(paper)
        whole = output[: output.rfind(b"\n", 0, size) + 1]
        assert (found.recovery.output_good_to, found.recovery.output_corrupt_at) == (len(whole), None)
        assert len(found.recovery.finished) == whole.count(b"\n")
        service = process.service.copy()
        truth = Truth(ambiguous=process.truth.ambiguous, output_was_cut=True, crashes=1)
        trials.finish(trials.take_up(process, paper, service, truth, "kill", random.Random(size), retry=0.0))
        assert paper.content()[OUTPUT].startswith(whole)
        assert service.posts == process.service.posts


def flipped(data):
    for at in range(len(data) * 8):
        twin = bytearray(data)
        twin[at // 8] ^= 1 << at % 8
        yield at // 8, bytes(twin)


def test_o14_every_flipped_bit_of_a_journal_is_a_refusal_or_the_right_prefix():
    _, journal, _ = finished_batch(SEED, 2)
    lines = list(lines_of(journal))
    starts = [sum(map(len, lines[:n])) for n in range(len(lines) + 1)]
    prefixes = {start: facts(fold(lines[:n]).journaled_rows) for n, start in enumerate(starts)}
    marks = [orjson.loads(line[9:])["synced"]["to"] for line in lines if b'"synced"' in line]
    refused = cut = 0
    for at, data in flipped(journal):
        state = fold(lines_of(data))
        start = max(start for start in starts if start <= at)
        if lines[starts.index(start)][9:].startswith(b'{"synced"'):
            # A mark that is gone takes no fact along; it may take the next line, whose start it hides.
            assert state.good_to in (start, len(journal)) or state.corrupt
        else:
            assert state.good_to == start, f"byte {at}"
        assert facts(state.journaled_rows) == prefixes[state.good_to] or state.corrupt
        refused += state.corrupt
        cut += state.torn
        if start + len(lines[starts.index(start)]) < max(marks[:-1]):
            assert state.corrupt or state.good_to == len(journal), f"byte {at} is before a mark"
    assert refused > cut > 0


def test_every_flipped_bit_of_an_output_costs_no_other_record():
    """A record that is still one passes: its marker no longer fits, and markers are no facts."""
    _, journal, output = finished_batch(SEED, 3)
    state = fold(lines_of(journal))
    every = recover(state, output).finished
    lines = list(lines_of(output))
    ends = [sum(map(len, lines[: n + 1])) for n in range(len(lines))]
    keys = [orjson.loads(line)["custom_id"] for line in lines]
    refused = torn = 0
    for at, data in flipped(output):
        found = recover(state, data)
        hit = next(n for n, end in enumerate(ends) if at < end)
        if found.output_corrupt_at is not None:
            refused += 1
            assert found.output_corrupt_at == ends[hit] - len(lines[hit])
            continue
        torn += found.output_good_to < len(data)
        assert found.finished.keys() >= set(keys[:hit])
        assert found.finished.keys() >= every.keys() - {keys[hit]}
    assert refused > 0
    assert torn > 0


@pytest.mark.parametrize("seed", range(3))
def test_markers_lead_to_their_records_after_every_run(seed):
    _, journal, output = finished_batch(seed, 20)
    journaled_rows = fold(lines_of(journal)).journaled_rows
    for line in lines_of(output):
        gen, offset, length, crc, _ = journaled_rows[orjson.loads(line)["custom_id"]].marker
        assert (gen, output[offset : offset + length], crc) == (0, line, crc32(line))
