"""The entries of a row say the same in whatever order they stand, doubled ones included."""

from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.journal.disorder import put_in_order
from batchrun.core.journal.entries import Cleared, Done, Intent, Submitted, read_line
from batchrun.core.journal.rewrite import entries_of
from tests.core.journal.test_rewrite import STORIES, facts, folded

REFUSED_BEFORE = [
    Intent("a", 1, "sha", 1.0),
    Cleared("a", 1, 1.5),
    Intent("a", 1, "sha", 2.0),
    Submitted("a", 1, "j", 3.0),
]
MORE = {
    "refused, then taken": REFUSED_BEFORE,
    "refused, then sent": REFUSED_BEFORE[:3],
    "refused twice": [*REFUSED_BEFORE[:3], Cleared("a", 1, 2.5)],
    "done": [*REFUSED_BEFORE, Done("a", 0, 5, 10, 99, "succeeded")],
}


@given(st.sampled_from([*STORIES.values(), *MORE.values()]), st.data())
def test_whatever_their_order(story, data):
    doubled = data.draw(st.lists(st.sampled_from(story), max_size=2)) if story else []
    lines = [entry.to_line() for entry in data.draw(st.permutations([*story, *doubled]))]
    row = put_in_order(map(read_line, lines))
    known = folded(*story).journaled_rows.get("a")
    if known is not None:
        assert facts(row) == facts(known)
    again = folded(*entries_of("a", row))
    assert not again.corrupt, "written again, they are in order"
