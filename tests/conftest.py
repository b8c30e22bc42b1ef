"""Options of the suite: long proofs, and documentation written again."""

import os

import hypothesis
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long proofs in full")
    parser.addoption(
        "--write-docs", action="store_true", help="write generated tables and screens of README and help again"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Properties meet ten times as many examples with --long. The suite's limit per test stands for a deadline."""
    hypothesis.settings.register_profile("quick", parent=hypothesis.settings(), deadline=None)
    hypothesis.settings.register_profile("long", parent=hypothesis.settings(), deadline=None, max_examples=1_000)
    hypothesis.settings.load_profile("long" if config.getoption("--long") else "quick")


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: the tests that run whole commands mostly wait for them."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long"))
