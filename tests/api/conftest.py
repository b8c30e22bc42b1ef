"""Every test of the API runs in a folder of its own, with nothing in its environment."""

import os

import pytest


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("OPENAI_", "AZURE_", "BATCHRUN_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return tmp_path
