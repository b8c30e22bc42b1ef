"""The public names: few, quick to import, documented, typed."""

import inspect
import os
import pydoc
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import batchrun
from batchrun.api.plain import in_python
from batchrun.api.setting_types import Given
from batchrun.core.settings.settings import Settings

ROOT = Path(__file__).parents[2]


def test_there_are_at_most_25_names_and_each_is_documented():
    assert len(batchrun.__all__) <= 25
    assert batchrun.__all__ == sorted(batchrun.__all__)
    for name in batchrun.__all__:
        found = getattr(batchrun, name)
        assert found.__doc__, name
        if inspect.isclass(found):
            hidden = [
                each for each, member in vars(found).items()
                if not each.startswith("_") and not getattr(member, "__doc__", None)
            ]  # fmt: skip
            assert not hidden or name in ("Snapshot", "State"), f"{name} does not say what {hidden} are"
    assert set(batchrun.__all__) < set(dir(batchrun))
    with pytest.raises(AttributeError, match="no attribute 'frobnicate'"):
        batchrun.frobnicate  # noqa: B018


def test_classes_say_where_people_find_them():
    for name in batchrun.__all__:
        found = getattr(batchrun, name)
        if inspect.isclass(found) and issubclass(found, BaseException):
            assert found.__module__ == "batchrun.errors"
    assert {
        batchrun.Record.__module__,
        batchrun.Records.__module__,
        batchrun.Batch.__module__,
        batchrun.run.__module__,
    } == {"batchrun"}


def test_importing_it_imports_nothing_heavy():
    code = "import sys, batchrun; print(sorted({'asyncio', 'httpx', 'orjson', 'anyio', 'tqdm', 'pandas', 'dataclasses'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_the_settings_of_a_call_are_those_of_the_command():
    known = {one.name for one in fields(Settings)}
    assert set(Given.__annotations__) == known - {"fresh"}, "api/setting_types.py names every setting"
    for call in (batchrun.run, batchrun.run_sync, batchrun.open):
        own = set(inspect.signature(call).parameters)
        assert own & known == {"fresh"}


def test_help_reads_well():
    said = pydoc.plain(pydoc.render_doc(batchrun.run))
    assert "one record a row, in the order of the rows" in said
    for name in ("rows", "out", "fresh", "observers", "limits", "progress", "demo", "settings"):
        assert f"\n    {name} " in said, f"{name} is not told"
    assert max(len(line) for line in said.splitlines()[4:]) <= 124
    for name in ("Interrupted", "Halted", "errors.InputError", "same call"):
        assert name in said


@pytest.mark.parametrize(
    ("command", "call"),
    [
        ("run the others with --skip-bad", "run the others with skip_bad=True"),
        ("name one there, or for all rows with --model", "name one there, or for all rows with model=…"),
        ("--poll-min: expected at most --poll-max (30)", "poll_min: expected at most poll_max (30)"),
        ("or --accept-changes for the rows not yet sent", "or accept_changes=True for the rows not yet sent"),
        ("name that input, or another output with -o", "name that input, or another output with out=…"),
        ("then run the same command again", "then make the same call again"),
        ("iconv -f UTF-16 -t UTF-8", "iconv -f UTF-16 -t UTF-8"),
        ("a row-o is no flag", "a row-o is no flag"),
    ],
)
def test_what_the_command_says_is_said_in_python(command, call):
    assert in_python(command) == call


@pytest.mark.parametrize("checker", ["pyrefly"])
def test_a_second_type_checker_agrees(checker):
    pytest.importorskip(checker)
    done = subprocess.run(
        [sys.executable, "-m", checker, "check", "--preset", "strict", "tests/typing/api.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
