"""Lines are counted as the engine counts them, whatever marks the tape puts between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.edge.append_file import AppendFailed, Lines, open_append
from tests.edge.paper_disk import PaperDisk

PATH = "/d/journal"


def mark(to):
    return b"synced %d\n" % to


class Desk:
    """Lines on a disk of paper, with everything that they reported."""

    def __init__(self, paper, mark=mark):
        self.safe = []
        self.failed = []
        self.lines = Lines(
            open_append(PATH, paper.disk()), safe=self.safe.append, failed=self.failed.append, mark=mark
        )  # fmt: skip


def test_a_group_is_one_report_and_its_mark_is_not_counted():
    paper = PaperDisk({PATH: b"of an earlier run\n"})
    desk = Desk(paper)
    desk.lines.append(b"one\n")
    desk.lines.append(b"two\n", lazy=True)
    assert desk.lines.file.commit()
    desk.lines.append(b"three\n")
    assert (desk.safe, desk.lines.count) == ([2], 2)
    assert desk.lines.file.commit()
    assert desk.safe == [2, 3]
    assert paper.content()[PATH] == b"of an earlier run\nsynced 18\none\ntwo\nsynced 36\nthree\n"


def test_lines_of_others_are_not_counted():
    desk = Desk(PaperDisk())
    desk.lines.file.append(b"started\n")
    assert desk.lines.file.commit()
    desk.lines.file.append(b"stopped\n")
    desk.lines.append(b"one\n")
    assert desk.lines.file.commit()
    assert desk.safe == [1]


@pytest.mark.parametrize("mark", [mark, None], ids=["marked", "unmarked"])
def test_what_is_given_while_a_group_is_under_way_is_not_safe_with_it(mark):
    desk = Desk(PaperDisk(), mark)
    desk.lines.append(b"one\n")
    group = desk.lines.file.gather()
    desk.lines.append(b"two\n")
    group.write()
    group.sync()
    desk.lines.file.settle(group)
    assert desk.safe == [1]
    assert desk.lines.file.commit()
    assert desk.safe == [1, 2]


def test_a_lazy_line_alone_starts_nothing_and_is_safe_at_the_close():
    desk = Desk(PaperDisk())
    desk.lines.append(b"one\n", lazy=True)
    assert not desk.lines.file.commit()
    assert desk.safe == []
    desk.lines.file.close()
    assert desk.safe == [1]


def test_what_a_broken_disk_did_not_keep_is_never_counted():
    paper = PaperDisk(trouble=OSError(5, "broken"))
    desk = Desk(paper)
    paper.stop = paper.steps + 1
    desk.lines.append(b"one\n")
    assert not desk.lines.file.commit()
    assert (desk.safe, len(desk.failed)) == ([], 1)
    with pytest.raises(AppendFailed):
        desk.lines.append(b"two\n")
    assert desk.lines.count == 0


@given(st.lists(st.sampled_from(["eager", "lazy", "commit"])), st.booleans())
def test_the_count_is_the_number_of_given_lines_on_the_disk(steps, marked):
    paper = PaperDisk()
    desk = Desk(paper, mark if marked else None)
    given_lines = 0
    for step in steps:
        if step == "commit":
            desk.lines.file.commit()
            paper_lines = paper.names[PATH].durable.split(b"\n")
            assert desk.lines.count == sum(line.startswith(b"line") for line in paper_lines)
        else:
            given_lines += 1
            desk.lines.append(b"line %d\n" % given_lines, lazy=step == "lazy")
    desk.lines.file.close()
    assert desk.lines.count == given_lines
    assert desk.safe == sorted(set(desk.safe)), "each report is of more"
