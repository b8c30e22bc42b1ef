"""Files of a batch are read with the garbage collector kept away, and as far as they went when their end was reached."""

import gc

import pytest

from batchrun.runner.opening.read import lines_of, no_collections


@pytest.fixture
def collector():
    was_on, frozen = gc.isenabled(), gc.get_freeze_count()
    gc.enable()
    yield
    if not frozen:
        gc.unfreeze()
    if not was_on:
        gc.disable()


@pytest.mark.usefixtures("collector")
def test_what_was_made_meanwhile_counts_as_old_at_once():
    with no_collections():
        assert not gc.isenabled()
        made = [[] for _ in range(2_000)]
    assert gc.isenabled()
    assert any(one is made for one in gc.get_objects(generation=2))
    assert gc.get_freeze_count() == 0, "a cycle among them would never be found"


@pytest.mark.usefixtures("collector")
def test_what_somebody_froze_stays_frozen():
    gc.freeze()
    frozen = gc.get_freeze_count()
    with no_collections():
        pass
    assert gc.get_freeze_count() >= frozen * 0.9 > 0


def test_a_line_that_grows_while_it_is_read_is_one_line(tmp_path):
    path = tmp_path / "journal"
    path.write_bytes(b"first\nhalf")
    lines = lines_of(str(path))
    assert [next(lines), next(lines)] == [b"first\n", b"half"]
    with path.open("ab") as file:
        file.write(b" and half\n")
    assert list(lines) == []
