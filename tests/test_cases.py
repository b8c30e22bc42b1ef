"""Every case of cases.txt has a test that names it.

A test names an id where it stands as a word in its name or in its parametrize id: `test_p04_p12_a_status_…`,
`…[s11-204]`.
"""

import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

NAMED = re.compile(r"(?<![A-Za-z0-9])[cfhiops]\d\d(?![A-Za-z0-9])")


def complaints(cases: Iterable[str], node_ids: Iterable[str]) -> list[str]:
    """What is wrong between the list and the tests."""
    rooms = defaultdict(set)
    for node_id in node_ids:
        path, _, name = node_id.partition("::")
        for case in NAMED.findall(name):
            rooms[case].add(path.split("/")[1])
    found = [f"{case}: {', '.join(rooms[case])} names it, cases.txt does not" for case in rooms.keys() - set(cases)]
    found += [f"{case}: no test names it" for case in set(cases) - rooms.keys()]
    return sorted(found)


@pytest.fixture(scope="module")
def cases():
    lines = (TESTS / "cases.txt").read_text().splitlines()
    listed = [line.split(" | ") for line in lines if line and not line.startswith("#")]
    assert all(len(parts) == 3 for parts in listed), "id | case | outcome"
    return [parts[0] for parts in listed]


def test_the_list_is_whole(cases):
    assert len(set(cases)) == len(cases) == 153
    assert all(NAMED.fullmatch(case) for case in cases)


def test_every_case_has_a_test_of_its_own(cases):
    """Collected by a process of its own, so that it is the same whatever this run was told to leave out."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", "-p", "no:cacheprovider", "tests"]
    environment = {**os.environ, "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    node_ids = [line for line in done.stdout.splitlines() if line.startswith("tests/") and "::" in line]
    others = [node_id for node_id in node_ids if not node_id.startswith("tests/test_cases.py::")]
    assert len(others) < len(node_ids), "this test was collected too, so that all were"
    assert complaints(cases, others) == []


S11 = "tests/core/test_a.py::test_s11_x"


@pytest.mark.parametrize(
    ("node_ids", "complaint"),
    [
        ([], ["s11: no test names it"]),
        (["tests/core/test_a.py::test_xs11_x[s111]", "tests/core/test_s11.py::test_x"], ["s11: no test names it"]),
        ([S11, "tests/core/test_a.py::test_x[s99-1]"], ["s99: core names it, cases.txt does not"]),
        ([S11], []),
        (["tests/core/test_a.py::test_x[s11-204]"], []),
    ],
)
def test_this_test_can_fail(node_ids, complaint):
    assert complaints(["s11"], node_ids) == complaint
