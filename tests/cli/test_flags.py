"""The settings as flags and variables, and how what is wrong is said."""

import argparse
import subprocess
import sys
import types
from dataclasses import fields
from pathlib import Path

import pytest

from batchrun.cli import COMMANDS, main
from batchrun.cli.parser import read_settings, run_parser
from batchrun.core.settings.parsing import example, read_states, spelled
from batchrun.core.settings.settings import SettingKind, Settings, UsageError
from batchrun.core.text.readable import flag, variable

ROOT = Path(__file__).parents[2]
SETTINGS = {setting.name: setting for setting in fields(Settings)}
BARE = ["in.jsonl", "-o", "out.jsonl"]


def parsed(*arguments):
    return run_parser().parse_args([*BARE, *arguments])


def refusal(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        parsed(*arguments)
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert err.count("\n") == 1
    return err.rstrip()


def test_only_what_was_given_is_returned():
    assert read_settings(parsed(), {}) == {}
    assert read_settings(parsed("--poll-max", "45s", "--max-body=1MiB", "--keep-going"), {}) == {
        "poll_max": 45.0,
        "max_body": 1 << 20,
        "keep_going": True,
    }


def test_the_rest_of_the_command():
    options = parsed("--journal", "j", "--summary", "s", "--log-json", "l", "--quiet", "--demo")
    actual = (options.input, options.output, options.journal, options.summary, options.log_json)
    assert actual == ("in.jsonl", "out.jsonl", "j", "s", "l")
    assert (options.quiet, options.demo) == (True, True)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_a_flag_and_a_variable(name):
    setting = SETTINGS[name]
    typed = example(setting)
    value = [] if setting.metadata["kind"] is SettingKind.SWITCH else [typed]
    by_flag = read_settings(parsed(flag(name), *value), {})
    assert list(by_flag) == [name]
    assert by_flag == read_settings(parsed(), {variable(name): typed})
    Settings.of(by_flag)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_default_in_the_help_is_the_default(name):
    shown = spelled(SETTINGS[name])
    if shown is not None:
        assert read_settings(parsed(flag(name), shown), {})[name] == SETTINGS[name].default


def test_a_flag_outranks_its_variable():
    environment = {"BATCHRUN_RPM": "60", "BATCHRUN_KEEP_GOING": "yes", "BATCHRUN_SET": "a=1\nb=2", "BATCHRUN_MODEL": ""}
    assert read_settings(parsed(), environment) == {"rpm": 60.0, "keep_going": True, "set": ("a=1", "b=2")}
    options = parsed("--rpm", "600", "--no-keep-going", "--set", "c=3", "--set", "d=4")
    assert read_settings(options, environment) == {"rpm": 600.0, "keep_going": False, "set": ("c=3", "d=4")}


def test_an_earlier_name_works_and_is_not_shown(capsys):
    for name in ("--transport", "--wire"):
        assert read_settings(parsed(name, "httpx"), {}) == {"transport": "httpx"}
    assert read_settings(parsed(), {"BATCHRUN_WIRE": "httpx"}) == {"transport": "httpx"}
    assert read_settings(parsed(), {"BATCHRUN_WIRE": "httpx", "BATCHRUN_TRANSPORT": "own"}) == {"transport": "own"}
    assert read_settings(parsed("--wire", "own"), {"BATCHRUN_TRANSPORT": "httpx"}) == {"transport": "own"}
    assert "--transport" in run_parser().format_help()
    assert "wire" not in run_parser().format_help()


def test_where_rows_end_at_the_submit_other_defaults_hold():
    assert Settings.of(read_settings(parsed(), {}), at_once=True).concurrency == 64
    assert Settings.of(read_settings(parsed("--concurrency", "9"), {}), at_once=True).submits == 9


@pytest.mark.parametrize(("arguments", "states"), [
    ([], None), (["--retry-failed"], ()), (["--retry-failed", "all"], ()),
    (["--retry-failed", "Failed,blocked-budget, failed"], ("failed", "blocked_budget")),
])  # fmt: skip
def test_states_to_run_again(arguments, states):
    assert read_settings(parsed(*arguments), {}).get("retry_failed") == states


def test_a_row_that_succeeded_is_not_run_again():
    with pytest.raises(ValueError, match="expected states that did not succeed, got 'succeeded'"):
        read_states("failed,succeeded")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rpm", "soon"], "batchrun: --rpm: expected a number such as 600 or 0.5, got 'soon'; write --rpm 600"),
        (
            ["--poll-max", "1y"],
            "batchrun: --poll-max: expected a time such as 90s, 5m or 24h, got '1y'; write --poll-max 30s",
        ),
        (
            ["--max-body", "lots"],
            "batchrun: --max-body: expected a size such as 500k or 64MiB, got 'lots'; write --max-body 64MiB",
        ),
        (["--rpm"], "batchrun: --rpm: expected a value, got none; batchrun --help lists all options"),
        (["--service", " "], "batchrun: --service: expected a text, got ' '; write --service azure"),
        (["--conccurency", "3"], "batchrun: unknown option --conccurency; did you mean --concurrency?"),
        (["--poll", "3"], "batchrun: unknown option --poll; did you mean"),  # never guessed from its beginning
        (["--\x1b[2Jx"], "batchrun: unknown option --\\x1b[2Jx; batchrun --help lists all options"),
        (["more.jsonl"], "batchrun: expected one INPUT, got 'more.jsonl' after it; run one input after another"),
        (["--retry-failed", "faild"], "got 'faild'; did you mean failed; if it is the INPUT, put that"),
    ],
)
def test_an_error_is_one_line(arguments, says, capsys):
    assert says in refusal(capsys, *arguments)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        (
            {"BATCHRUN_RPM": "fast"},
            "BATCHRUN_RPM: expected a number such as 600 or 0.5, got 'fast'; write BATCHRUN_RPM=600, or unset it",
        ),
        (
            {"BATCHRUN_REPAIR": "perhaps"},
            "BATCHRUN_REPAIR: expected yes or no, got 'perhaps'; write BATCHRUN_REPAIR=1, or unset it",
        ),
        ({"BATCHRUN_RETRY_FAILED": "faild"}, "did you mean failed; batchrun explain lists them, or unset it"),
        (
            {"BATCHRUN_POLL_MAX": "10m"},
            "BATCHRUN_POLL_MAX: expected at most 300 s, as some services keep results for ten minutes only, got 600.0; write",
        ),
        (
            {"BATCHRUN_CONCURENCY": "5"},
            "BATCHRUN_CONCURENCY is not a setting; did you mean BATCHRUN_CONCURRENCY? rename it, or unset it",
        ),
    ],
)
def test_a_bad_variable_is_named_as_such(environment, says):
    with pytest.raises(UsageError) as error:
        read_settings(parsed(), environment)
    assert says in str(error.value)


def test_variables_of_others_are_left_alone():
    assert read_settings(parsed(), {"BATCHRUN_HOME": "/x", "BATCHRUNRPM": "4", "PATH": "/bin"}) == {}


def test_a_flag_that_makes_no_sense_is_named_as_a_flag():
    with pytest.raises(UsageError) as error:
        read_settings(parsed("--poll-max", "10m"), {"BATCHRUN_POLL_MAX": "10s"})
    assert str(error.value).startswith("--poll-max: expected at most 300 s")
    assert str(error.value).endswith("write --poll-max 30s")


def test_of_two_settings_that_do_not_fit_each_is_named_as_it_was_given():
    with pytest.raises(UsageError) as error:
        read_settings(parsed(), {"BATCHRUN_POLL_MAX": "500ms"})
    assert str(error.value) == (
        "--poll-min: expected at most BATCHRUN_POLL_MAX (0.5), got 1.0; lower it, or raise --poll-max"
    )
    with pytest.raises(UsageError) as error:
        read_settings(parsed("--poll-max", "2s"), {"BATCHRUN_POLL_MIN": "3s"})
    said = "BATCHRUN_POLL_MIN: expected at most --poll-max (2), got 3.0; write BATCHRUN_POLL_MIN=1s, or unset it"
    assert str(error.value) == said


# --- the command as a whole ---


@pytest.mark.parametrize(
    ("environment", "flags", "says"),
    [
        ({"BATCHRUN_RPM": "0"}, [], "BATCHRUN_RPM: expected a number above 0, got 0.0; write BATCHRUN_RPM=600"),
        ({"BATCHRUN_RPM": "60"}, ["--rpm", "0"], "--rpm: expected a number above 0, got 0.0; write --rpm 600"),
        ({"BATCHRUN_SERVICE": "opnai"}, [], "BATCHRUN_SERVICE: there is no service 'opnai'; did you mean openai?"),
        (
            {"BATCHRUN_DETACH": "1"},
            ["--concurrency", "5"],
            "--concurrency 5: expected none with BATCHRUN_DETACH, which",
        ),
        ({"BATCHRUN_BASE_URL": "ftp://x"}, ["--service", "compatible"], "BATCHRUN_BASE_URL: expected https://HOST"),
        ({"BATCHRUN_SET": "stream=true"}, ["--demo"], "BATCHRUN_SET=stream is refused: batchrun itself decides"),
        ({"BATCHRUN_CONCURRENCY": "5"}, ["--detach"], "BATCHRUN_CONCURRENCY=5: expected none with --detach"),
    ],
)
def test_the_command_blames_what_was_wrong(environment, flags, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "in.jsonl").touch()
    assert main([*BARE, *flags]) == 2
    assert capsys.readouterr().err.startswith(f"batchrun: {says}")


@pytest.fixture
def ran(monkeypatch):
    """What the main job was called with; it answers 7."""
    calls: list[argparse.Namespace] = []
    module = types.ModuleType("batchrun.cli.run")
    module.run = lambda options: calls.append(options) or 7
    monkeypatch.setitem(sys.modules, "batchrun.cli.run", module)
    return calls


def test_an_input_is_the_main_job(ran, tmp_path):
    rows = tmp_path / "explian"  # a file, whatever its name looks like
    rows.touch()
    assert main([str(rows), "-o", "out.jsonl"]) == 7
    assert main(["-", "-o", "out.jsonl"]) == 7
    assert main(["-o", "out.jsonl", "--rpm", "5", "no-such-file-yet"]) == 7
    assert [options.input for options in ran] == [str(rows), "-", "no-such-file-yet"]


@pytest.mark.parametrize(("word", "says"), [
    ("explian", "did you mean explain?"),
    ("Check", "did you mean check?"),
    ("inptu.jsonl", "check the path; batchrun --help lists the commands"),
    ("a\x1b\0b", "check the path"),
    ("x" * 5000, "check the path"),
])  # fmt: skip
def test_what_is_neither_file_nor_command_is_named(word, says, ran, capsys):
    with pytest.raises(SystemExit) as end:
        main([word, "-o", "out.jsonl"])
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert "no such file, and no such command; " in err
    assert says in err
    assert "\x1b" not in err
    assert not ran


def test_an_output_is_needed(ran, tmp_path, capsys):
    (tmp_path / "in.jsonl").touch()
    with pytest.raises(SystemExit):
        main([str(tmp_path / "in.jsonl")])
    assert "expected -o/--output, got none; write batchrun in.jsonl -o out.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize("columns", ["40", "80", "240"])
def test_the_help_names_everything_in_at_most_80_columns(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0
    assert max(map(len, out.splitlines())) <= min(80, int(columns))
    assert {flag(name) for name in SETTINGS} <= {word.strip("[],") for word in out.split()}
    for part in (*COMMANDS, "service:", "polling:", "output:", "exit codes:", "100 + 25% of", "default: 24h"):
        assert part in " ".join(out.split())


HELP_IMPORTS = 150
"""Modules that the help may import; it takes 20 ms and not 300, as long as these are few and none of them is heavy."""


@pytest.mark.parametrize(
    "command", [["--help"], [], ["help"], ["help", "resume"]], ids=["--help", "nothing", "help", "topic"]
)
def test_the_help_is_quick_as_it_imports_little_and_nothing_heavy(command):
    """Counted, as seconds say more of the machine."""
    bare, ours = (
        set(
            subprocess.run(
                [sys.executable, "-S", "-c", code + "\nprint(*sys.modules, file=sys.stderr)"],
                capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT / "src")},
            ).stderr.split()
        )
        for code in (
            "import sys",
            f"import sys, contextlib, batchrun.cli\nwith contextlib.suppress(SystemExit): batchrun.cli.main({command})",
        )
    )  # fmt: skip
    heavy = {"asyncio", "concurrent", "http", "ssl", "socket", "sqlite3", "email", "logging", "multiprocessing"}
    more = ours - bare
    others = {name.partition(".")[0] for name in more} - sys.stdlib_module_names
    assert (others, {name.partition(".")[0] for name in more} & heavy) == ({"batchrun"}, set())
    assert len(more) < HELP_IMPORTS, sorted(more)
