"""A key in the wrong setting: refused before anything is sent, and shown nowhere."""

import traceback

import pytest

import batchrun
from batchrun.cli import main
from batchrun.core.settings.settings import Settings

KEY = "sk-canary-77c1e0aa5b9d"
PLAIN = "0123456789abcdef0123456789abcdef"  # as Azure's are
NAMES = ["key_file", "base_url", "service", "model", "set", "rpm", "concurrency", "deadline", "max_body", "transport", "retry_failed", "skip_bad"]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"model": "m", "input": "x"}\n')
    monkeypatch.setenv("OPENAI_API_KEY", "another-key-0123456789")
    return tmp_path


def value_of(name, key):
    return f"user={key}" if name == "set" else key


@pytest.mark.parametrize("name", NAMES)
def test_in_a_variable(name, folder, monkeypatch, capfd):
    monkeypatch.setenv(f"BATCHRUN_{name.upper()}", value_of(name, KEY))
    try:
        assert main(["in.jsonl", "-o", "out.jsonl"]) == 2
    except SystemExit as end:
        assert end.code == 2
    shown = "".join(capfd.readouterr())
    assert KEY not in shown
    assert f"BATCHRUN_{name.upper()}" in shown
    with pytest.raises(batchrun.errors.SettingsError) as caught:
        batchrun.run_sync("in.jsonl", out="out.jsonl", progress=False)
    assert KEY not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    for path in folder.iterdir():
        assert KEY.encode() not in path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_as_a_flag(name, folder, capfd):
    try:
        assert main(["in.jsonl", "-o", "out.jsonl", f"--{name.replace('_', '-')}={value_of(name, KEY)}"]) == 2
    except SystemExit as end:
        assert end.code == 2
    assert KEY not in "".join(capfd.readouterr())
    assert sorted(path.name for path in folder.iterdir()) == ["in.jsonl"]


@pytest.mark.parametrize("name", ["key_file", "base_url", "rpm", "concurrency", "deadline", "max_body"])
def test_a_key_of_no_known_form(name, folder, monkeypatch, capfd):
    monkeypatch.setenv(f"BATCHRUN_{name.upper()}", PLAIN)
    assert main(["in.jsonl", "-o", "out.jsonl"]) == 2
    assert PLAIN not in "".join(capfd.readouterr())


def test_the_settings_tried_exist():
    assert all(hasattr(Settings(), name) for name in NAMES)
