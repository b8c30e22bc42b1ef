"""The bar of a call: one time left, ours; tqdm's own is left out."""

import io
import sys

from batchrun.api.observers import Bar
from tests.core.snapshots import snapshot


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_tells_one_time_left(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    bar = Bar()
    bar.grow(100)
    for second in range(10):
        bar.progressed(snapshot(now=float(second), states={"succeeded": second}, in_flight=5))
    last = stream.getvalue().rstrip().rpartition("\r")[2]
    bar.close()
    assert "9/100 [" in last
    assert "9 ok, 1 min 31 s left, 5 in flight" in last
    assert "<" not in last, "tqdm's own time left"
    assert "row/s" not in last
