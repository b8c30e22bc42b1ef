"""Lines are counted as the engine counts them, whatever marks the file has between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.edge.append_file import AppendFailed, Lines, open_append
from tests.edge.paper_disk import PaperDisk

PATH = "/d/journal"


def mark(to):
    return b"synced %d\n" % to


class Recorder:
    """Lines on a disk of paper, with everything that they reported."""

    def __init__(self, paper, mark=mark):
        self.safe = []
        self.failed = []
        self.lines = Lines(
            open_append(PATH, paper.disk()), safe=self.safe.append, failed=self.failed.append, mark=mark
        )  # fmt: skip


def test_a_group_is_one_report_and_its_mark_is_not_counted():
    paper = PaperDisk({PATH: b"of an earlier run\n"})
    recorder = Recorder(paper)
    recorder.lines.append(b"one\n")
    recorder.lines.append(b"two\n", lazy=True)
    assert recorder.lines.file.commit()
    recorder.lines.append(b"three\n")
    assert (recorder.safe, recorder.lines.count) == ([2], 2)
    assert recorder.lines.file.commit()
    assert recorder.safe == [2, 3]
    assert paper.content()[PATH] == b"of an earlier run\nsynced 18\none\ntwo\nsynced 36\nthree\n"


def test_lines_of_others_are_not_counted():
    recorder = Recorder(PaperDisk())
    recorder.lines.file.append(b"started\n")
    assert recorder.lines.file.commit()
    recorder.lines.file.append(b"stopped\n")
    recorder.lines.append(b"one\n")
    assert recorder.lines.file.commit()
    assert recorder.safe == [1]


@pytest.mark.parametrize("mark", [mark, None], ids=["marked", "unmarked"])
def test_what_is_given_while_a_group_is_under_way_is_not_safe_with_it(mark):
    recorder = Recorder(PaperDisk(), mark)
    recorder.lines.append(b"one\n")
    group = recorder.lines.file.gather()
    recorder.lines.append(b"two\n")
    group.write()
    group.sync()
    recorder.lines.file.settle(group)
    assert recorder.safe == [1]
    assert recorder.lines.file.commit()
    assert recorder.safe == [1, 2]


def test_a_lazy_line_alone_starts_nothing_and_is_safe_at_the_close():
    recorder = Recorder(PaperDisk())
    recorder.lines.append(b"one\n", lazy=True)
    assert not recorder.lines.file.commit()
    assert recorder.safe == []
    recorder.lines.file.close()
    assert recorder.safe == [1]


def test_what_a_broken_disk_did_not_keep_is_never_counted():
    paper = PaperDisk(trouble=OSError(5, "broken"))
    recorder = Recorder(paper)
    paper.stop = paper.steps + 1
    recorder.lines.append(b"one\n")
    assert not recorder.lines.file.commit()
    assert (recorder.safe, len(recorder.failed)) == ([], 1)
    with pytest.raises(AppendFailed):
        recorder.lines.append(b"two\n")
    assert recorder.lines.count == 0


@given(st.lists(st.sampled_from(["eager", "lazy", "commit"])), st.booleans())
def test_the_count_is_the_number_of_given_lines_on_the_disk(steps, marked):
    paper = PaperDisk()
    recorder = Recorder(paper, mark if marked else None)
    given_lines = 0
    for step in steps:
        if step == "commit":
            recorder.lines.file.commit()
            paper_lines = paper.names[PATH].durable.split(b"\n")
            assert recorder.lines.count == sum(line.startswith(b"line") for line in paper_lines)
        else:
            given_lines += 1
            recorder.lines.append(b"line %d\n" % given_lines, lazy=step == "lazy")
    recorder.lines.file.close()
    assert recorder.lines.count == given_lines
    assert recorder.safe == sorted(set(recorder.safe)), "each report is of more"
