"""The public names: few, quick to import, documented, typed."""

import ast
import inspect
import os
import pydoc
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import batchrun
from batchrun.api.setting_types import SettingArguments
from batchrun.api.wording import error_in_python, in_python
from batchrun.core.settings.parsing import FORMER_NAMES
from batchrun.core.settings.settings import Settings, UsageError
from batchrun.core.text.readable import Action, Option, worded

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
    assert set(SettingArguments.__annotations__) == (known | {*FORMER_NAMES}) - {"fresh"}, "api/setting_types.py"
    for call in (batchrun.run, batchrun.run_sync, batchrun.open):
        own = set(inspect.signature(call).parameters)
        assert own & known == {"fresh"}


def test_help_reads_well():
    said = pydoc.plain(pydoc.render_doc(batchrun.run))
    assert "one record per row, in the order of the rows" in said
    for name in ("rows", "out", "fresh", "observers", "limits", "progress", "demo", "settings"):
        assert f"\n    {name} " in said, f"{name} is not told"
    assert max(len(line) for line in said.splitlines()[4:]) <= 124
    for name in ("Interrupted", "Halted", "errors.InputError", "same call"):
        assert name in said


@pytest.mark.parametrize(
    ("text", "command", "call"),
    [
        (("with ", Option("skip_bad")), "with --skip-bad", "with skip_bad=True"),
        (("with ", Option("model")), "with --model", "with model=…"),
        (("another output with ", Option("out")), "another output with -o", "another output with out=…"),
        (("with ", Option("limit", "N")), "with --limit N", "with limit=N"),
        (Option("service", "azure"), "--service azure", "service='azure'"),
        (Option("set", "temperature=0.2"), "--set temperature=0.2", 'set={"temperature": 0.2}'),
        (("write ", Option("set", """'a={"b": …}'""")), """write --set 'a={"b": …}'""", 'write set={"a": {"b": …}}'),
        (Option("retry_failed", "timeout"), "--retry-failed timeout", 'retry_failed=["timeout"]'),
        (("or ", Option("demo")), "or --demo", "or demo=True"),
        (("then ", Action.RUN_AGAIN), "then run the same command again", "then make the same call again"),
        ("the service said --verbose", "the service said --verbose", "the service said --verbose"),
    ],
)
def test_the_command_and_python_each_word_a_text(text, command, call):
    assert (worded(text), in_python(text)) == (command, call)


def test_what_is_wrong_is_named_as_it_was_given_and_the_remedy_as_it_is_typed():
    error = UsageError(
        ("expected none with ", Option("detach")), ("leave it out, or give ", Option("rpm", "5")), Option("tpm", "7")
    )
    assert str(error) == "--tpm 7: expected none with --detach; leave it out, or give --rpm 5"
    assert str(error_in_python(error)) == "tpm=7: expected none with detach; leave it out, or give rpm=5"
    variables = {"tpm", "rpm"}
    assert error.worded(variables) == "BATCHRUN_TPM=7: expected none with --detach; leave it out, or give --rpm 5"
    said = "BATCHRUN_TPM=7: expected none with detach; leave it out, or give rpm=5"
    assert str(error_in_python(error, variables)) == said


def test_no_message_is_translated_by_a_regular_expression():
    for folder in ("api", "cli", "core/settings"):
        for path in (ROOT / "src" / "batchrun" / folder).glob("*.py"):
            tree = ast.parse(path.read_text())
            imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
            named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            assert "re" not in imported or not named & {"sub", "subn"}, path


@pytest.mark.parametrize("checker", ["pyrefly"])
def test_a_second_type_checker_agrees(checker):
    pytest.importorskip(checker)
    samples = sorted(str(path) for path in (ROOT / "tests" / "typing").glob("*.py"))
    done = subprocess.run(
        [sys.executable, "-m", checker, "check", "--preset", "strict", *samples], cwd=ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
