"""How many connections a run opens where the system allows it only so many files, and what it says to far too few."""

import resource
import subprocess
import sys

import pytest

from batchrun.core.settings.settings import Settings
from batchrun.edge.append_file import BatchFilesError
from batchrun.runner.opening.service import (
    LEAST_DESCRIPTORS,
    SPARE_DESCRIPTORS,
    expect_descriptors,
    within_the_file_limit,
)

MANY = {"connections": 5_000, "submits": 4_000, "concurrency": 4_000}


@pytest.fixture
def system(monkeypatch):
    """A system with these limits; `refuses` to change them."""

    def made(soft, hard, *, refuses=False):
        limits = [soft, hard]

        def setrlimit(_, wanted):
            if refuses:
                raise ValueError("not allowed to raise maximum limit")
            limits[:] = wanted

        monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
        monkeypatch.setattr(resource, "setrlimit", setrlimit)
        return limits

    return made


@pytest.mark.parametrize("soft", [256, 1_024, 4_096])
def test_submits_and_polls_together_leave_the_spare_files_free(system, soft):
    """Each of both may have as many connections as are set."""
    system(soft, soft)
    settings = within_the_file_limit(Settings.of(MANY))
    assert 2 * settings.connections + SPARE_DESCRIPTORS in (soft, soft - 1)
    assert settings.submits == settings.connections


def test_the_soft_limit_is_raised_first(system):
    limits = system(256, 100_000)
    assert within_the_file_limit(Settings.of(MANY)) == Settings.of(MANY)
    assert limits == [65_536, 100_000]


def test_where_it_cannot_be_raised_it_stands(system):
    limits = system(256, resource.RLIM_INFINITY, refuses=True)
    settings = within_the_file_limit(Settings.of(MANY))
    assert (settings.connections, limits) == ((256 - SPARE_DESCRIPTORS) // 2, [256, resource.RLIM_INFINITY])


def test_a_few_are_opened_however_low_the_limit_is_and_fewer_stay_fewer(system):
    system(16, 16)
    assert within_the_file_limit(Settings.of(MANY)).connections == 8
    assert within_the_file_limit(Settings.of({"connections": 3})).connections == 3


@pytest.mark.parametrize("command", ["i.jsonl -o o.jsonl --demo", "serve"])
@pytest.mark.parametrize("limit", [8, 10, 12, LEAST_DESCRIPTORS - 1])
def test_o28_too_few_descriptors_are_refused_with_how_many_are_needed(tmp_path, limit, command):
    (tmp_path / "i.jsonl").write_text('{"custom_id": "a", "body": {"model": "m", "input": "x"}}\n')
    done = subprocess.run(
        ["sh", "-c", f'ulimit -n {limit}; exec "$0" -m batchrun {command}', sys.executable],
        cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    (line,) = done.stderr.splitlines()
    assert f"expected to open {LEAST_DESCRIPTORS} files at once, found a limit of {limit}; raise it" in line
    assert "`ulimit -n 1024`" in line
    assert [one.name for one in tmp_path.iterdir()] == ["i.jsonl"]


def test_o28_with_just_as_many_descriptors_as_that_a_run_completes(tmp_path):
    rows = "".join(f'{{"custom_id": "{n}", "body": {{"model": "m", "input": "x"}}}}\n' for n in range(20))
    (tmp_path / "i.jsonl").write_text(rows)
    command = (
        f'ulimit -n {LEAST_DESCRIPTORS}; exec "$0" -m batchrun i.jsonl -o o.jsonl --demo --connections 1 --submits 1'
    )
    done = subprocess.run(
        ["sh", "-c", command, sys.executable], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    assert len((tmp_path / "o.jsonl").read_bytes().splitlines()) == 20


def test_o28_descriptors_that_are_open_already_are_counted(system):
    system(LEAST_DESCRIPTORS, LEAST_DESCRIPTORS)
    with open("/dev/null") as one, open("/dev/null") as two:  # noqa: PTH123 - as many as a shell may leave open
        assert one.fileno() != two.fileno()
        with pytest.raises(BatchFilesError, match=f"found a limit of {LEAST_DESCRIPTORS}"):
            expect_descriptors()
    system(1 << 11, 1 << 11)
    expect_descriptors()
    system(8, 1 << 11)
    expect_descriptors()
