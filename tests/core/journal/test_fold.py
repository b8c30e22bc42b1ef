"""A fold that goes on: whatever the parts in which the lines come, it amounts to what all of them at once do."""

import dataclasses
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.journal.disorder import put_in_order
from batchrun.core.journal.entries import (
    AttemptEnded,
    Done,
    Intent,
    Started,
    Stopped,
    Submitted,
    frame,
    mark,
    read_line,
)
from batchrun.core.journal.fold import Folding, fold
from tests.core.journal.test_entries import ENTRIES, GROUPS, HEADER, facts, journal, lines_of

TOMORROW = frame(b'{"header":{"version":2}}')


def whole(state):
    found = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return found | {"journaled_rows": facts(state.journaled_rows)}


def parts_of(lines, cuts):
    edges = [0, *sorted(cuts), len(lines)]
    return [lines[start:end] for start, end in pairwise(edges)]


@st.composite
def journals(draw):
    """Lines of a journal as it may be found: whole, damaged somewhere, of a newer version, without a header."""
    entries = ENTRIES if draw(st.booleans()) else [HEADER, *(entry for group in draw(GROUPS) for entry in group)]
    data, _ = journal([entries[i : i + 3] for i in range(0, len(entries), 3)])
    lines = lines_of(data)
    for place in draw(st.lists(st.integers(0, len(lines) - 1), max_size=2)):
        lines[place] = draw(st.sampled_from([b"\0" * 30 + b"\n", b"torn", frame(b'{"unheard_of":{}}'), TOMORROW]))
    return lines


@given(journals(), st.data(), st.booleans())
def test_any_parts_fold_to_what_the_whole_folds_to(lines, data, repairing):
    past_damage_to = sum(map(len, lines)) // 2 if repairing else 0
    folding = Folding(past_damage_to)
    taken = []
    for part in parts_of(lines, data.draw(st.lists(st.integers(0, len(lines)), max_size=5))):
        taken += part
        assert whole(folding.take(iter(part))) == whole(fold(taken, past_damage_to)), (
            "at each moment, not just the last"
        )


def test_who_is_told_hears_of_every_entry_that_counts_and_of_no_other():
    heard = []
    folding = Folding(told=dict.fromkeys(("started", "intent", "done", "stopped"), heard.append))
    good = [Started(7, 1.0, 2), Intent("a", 1, "sha", 2.0), Done("a", 0, 0, 10, 99, "succeeded")]
    folding.take([HEADER.to_line(), mark(len(HEADER.to_line())), *(entry.to_line() for entry in good)])
    folding.take([Submitted("a", 1, "../x", 3.0).to_line(), Stopped("SIGINT", 9.0).to_line()])
    assert [tuple(values) for values in heard] == [tuple(entry.__slots__) for entry in good]
    assert folding.fold.torn


def test_a_line_that_is_no_entry_by_itself_is_bad_among_many_good_ones():
    lines = [HEADER.to_line(), *(Intent(f"row-{n}", 1, "sha", 1.0).to_line() for n in range(700))]
    halves = b'{"unheard_of":{"a":1', b'"b":2}}', b'{"unheard_of":{}},{"other":{}}'  # three values in all, if joined
    lines[400:400] = map(frame, halves)
    state = fold(lines)
    assert (state.good_to, state.torn, len(state.journaled_rows)) == (len(b"".join(lines[:400])), True, 399)
    assert len(fold(lines, past_damage_to=10**6).journaled_rows) == 700


def test_a_repair_knows_where_each_bad_line_stands_among_many_good_ones():
    lines = [HEADER.to_line(), *(Intent(f"row-{n}", 1, "sha", 1.0).to_line() for n in range(700))]
    places = (1, 255, 256, 257, 600, 700)
    for place in places:
        lines[place] = b"x" * place + b"\n"
    state = fold(lines, sum(map(len, lines)))
    assert state.damaged == [(sum(map(len, lines[:place])), place + 1) for place in places]
    assert state.good_to == sum(map(len, lines))
    torn = fold(lines, sum(map(len, lines[:257])))
    assert (torn.good_to, torn.torn) == (sum(map(len, lines[:257])), True)


def test_the_hash_of_a_row_outlives_its_first_attempt():
    """Without it a row that was retried would be compared with nothing, and another body of it would be sent."""
    failed = AttemptEnded("a", 1, "j", "internal_error", "server_error", "unknown", 3.0, 2.0)
    story = [Intent("a", 1, "sha", 1.0), Submitted("a", 1, "j", 1.5), failed, Intent("a", 2, "", 4.0)]
    again = [Submitted("a", 2, "k", 5.0)]
    for entries in (story, story + again):
        lines = [entry.to_line() for entry in entries]
        assert fold([HEADER.to_line(), *lines]).journaled_rows["a"].row_sha256 == "sha"
        assert put_in_order(map(read_line, lines[::-1])).row_sha256 == "sha"
