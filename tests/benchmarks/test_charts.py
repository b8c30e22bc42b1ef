"""The charts that the documentation shows: no label is cut at an edge."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

CHARTS = Path(__file__).parents[2] / "benchmarks" / "charts"
WIDEST = 0.6
"""Width of a character in a wide sans-serif font, as a share of its size; of long texts, on average."""


@pytest.mark.parametrize("path", sorted(CHARTS.glob("*.svg")), ids=lambda path: path.stem)
def test_no_label_of_a_chart_is_cut(path):
    chart = ET.parse(path).getroot()
    _, _, width, height = map(float, chart.get("viewBox").split())
    texts = list(chart.iter("{http://www.w3.org/2000/svg}text"))
    assert texts
    for text in texts:
        x, y = float(text.get("x")), float(text.get("y"))
        wide = len(text.text) * WIDEST * float(text.get("font-size") or 13)
        left = x - wide if text.get("text-anchor") == "end" else x
        assert left >= 0, text.text
        assert left + wide <= width, text.text
        assert 0 < y < height, text.text
