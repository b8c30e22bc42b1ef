"""How many connections a run opens where the system allows it only so many files."""

import resource

import pytest

from batchrun.core.settings.settings import Settings
from batchrun.runner.opening.service import SPARE_DESCRIPTORS, within_the_file_limit

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
