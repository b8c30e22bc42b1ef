"""Options of the suite: long proofs, and README blocks written anew."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long proofs in full")
    parser.addoption("--write-readme", action="store_true", help="write the README's generated blocks anew")


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long"))
