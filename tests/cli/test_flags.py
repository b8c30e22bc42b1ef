"""The settings as flags and variables, and how what is wrong is said."""

import argparse
import subprocess
import sys
import types
from dataclasses import fields
from pathlib import Path

import pytest

from batchrun.cli import COMMANDS, collect, main
from batchrun.cli.parser import Parser, read_settings, run_parser
from batchrun.core.settings.parsing import example, read_states, spelled
from batchrun.core.settings.settings import SettingKind, Settings, UsageError
from batchrun.core.settings.unknown import OTHER_TOOLS, SUGGESTED_NEVER, answer
from batchrun.core.text.readable import Option, flag, variable

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
        (["--poll", "3"], "batchrun: unknown option --poll; batchrun --help lists all options"),
        (["--wir", "own"], "batchrun: unknown option --wir; batchrun --help lists all options"),  # no earlier name
        (["--\x1b[2Jx"], "batchrun: unknown option --\\x1b[2Jx; batchrun --help lists all options"),
        (["more.jsonl"], "batchrun: expected one INPUT, got 'more.jsonl' after it; run one input after another"),
        (["--retry-failed", "faild"], "got 'faild'; did you mean failed; if it is the INPUT, put that"),
    ],
)
def test_an_error_is_one_line(arguments, says, capsys):
    assert says in refusal(capsys, *arguments)


@pytest.mark.parametrize(("option", "answer"), [
    ("--resume", "leave it out: with the same input and output a batch resumes"),
    ("--continue", "leave it out: with the same input and output a batch resumes"),
    ("--dry-run", "batchrun check in.jsonl reads the input and sends nothing"),
    ("-n", "batchrun check in.jsonl reads the input and sends nothing"),
    ("--workers", "write --concurrency 64"),
    ("--workers=8", "write --concurrency 64"),
    ("--timeout", "write --deadline 2h (a job), --max-wait 8h (the run) or --submit-timeout 60s (a POST)"),
    ("--verbose", "write --log-json FILE, which is given every event"),
    ("-v", "write --log-json FILE, which is given every event"),
    ("-V", "write batchrun --version"),
    ("-q", "write --quiet"),
    ("--api-key", "set OPENAI_API_KEY, or write --key-file key.txt or --token-command"),
    ("--endpoint", 'a row names its own, as in "url": "/v1/chat/completions"; the service is --base-url'),
    ("--force", "leave it out to resume, or name another output to start over"),
    ("--Max-Retries", "write --retries 4"),
    ("--conc", "did you mean --concurrency?"),
    ("--modle", "did you mean --model?"),
    ("--temperature", "it is a field of the body: write --set temperature=VALUE"),
    ("--max-output-tokens=50", "it is a field of the body: write --set max_output_tokens=VALUE"),
    ("--input", "the input has no option: batchrun in.jsonl -o out.jsonl"),
    ("--purple", "batchrun --help lists all options"),
])  # fmt: skip
def test_an_option_of_another_tool_is_answered_by_name(option, answer, capsys):
    name = option.partition("=")[0]
    assert refusal(capsys, option) == f"batchrun: unknown option {name}; {answer}"
    with pytest.raises(
        SystemExit
    ):  # also where something is missing: with the output alone `-V` would never be answered
        run_parser().parse_args([option])
    assert f"unknown option {name}; " in capsys.readouterr().err


def test_no_answer_names_an_option_that_can_pay_twice_or_lose_something(capsys, monkeypatch):
    """Not even for a near spelling: `--refresh` is not far from `--fresh`."""
    risky = [flag(name) for name in SUGGESTED_NEVER]
    tried = {
        "--refresh",
        "--freshen",
        "--new",
        "--re-submit",
        *(one[:-1] for one in risky),
        *(one + "s" for one in risky),
    }
    for option in sorted(tried):
        hint = refusal(capsys, option).partition("; ")[2]
        assert not [one for one in risky if one in hint.split()], option
    for name in SUGGESTED_NEVER:
        with pytest.raises(UsageError) as error:
            read_settings(parsed(), {variable(name) + "S": "1"})
        assert str(error.value) == f"unknown setting {variable(name)}S; unset it"
    assert set(SETTINGS) >= SUGGESTED_NEVER


def test_what_an_answer_names_exists(capsys):
    for text in (answer(name, ()) for name in OTHER_TOOLS):
        for part in text if isinstance(text, tuple) else (text,):
            if isinstance(part, Option):
                assert part.name in SETTINGS
                if part.value is not None:
                    parsed(*str(part).split())


@pytest.mark.parametrize(("command", "option", "says"), [
    ("status", "--workers", "batchrun status --help lists all options"),  # it has none of what is named for a run
    ("status", "--resume", "batchrun status --help lists all options"),
    ("check", "--dry-run", "batchrun check in.jsonl reads the input and sends nothing"),
    ("cancel", "--api-key", "set OPENAI_API_KEY, or write --key-file key.txt or --token-command"),
    ("collect", "--resume", "leave it out: with the same input and output a batch resumes"),
    ("resume", "--dry-run", "batchrun check INPUT reads the input and sends nothing"),
])  # fmt: skip
def test_other_commands_name_what_they_have(command, option, says, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "in.jsonl", option])
    assert (end.value.code, capsys.readouterr().err) == (2, f"batchrun {command}: unknown option {option}; {says}\n")


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
            {"BATCHRUN_POLL_MAX": "31m"},
            "BATCHRUN_POLL_MAX: expected at most 1800 s, got 1860.0; write",
        ),
        (
            {"BATCHRUN_CONCURENCY": "5"},
            "unknown setting BATCHRUN_CONCURENCY; did you mean BATCHRUN_CONCURRENCY? rename it, or unset it",
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
        read_settings(parsed("--poll-max", "31m"), {"BATCHRUN_POLL_MAX": "10s"})
    assert str(error.value).startswith("--poll-max: expected at most 1800 s")
    assert str(error.value).endswith("write --poll-max 30s")


def test_of_two_settings_that_do_not_fit_each_is_named_as_it_was_given():
    with pytest.raises(UsageError) as error:
        read_settings(parsed("--poll-min", "1s"), {"BATCHRUN_POLL_MAX": "500ms"})
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


@pytest.mark.parametrize(("arguments", "says"), [
    (["run", "in.jsonl", "-o", "my out"], "unknown command 'run'; a run has none: batchrun in.jsonl -o 'my out'"),
    (["submit", "in.jsonl", "-o", "out"], "unknown command 'submit'; a run has none: batchrun in.jsonl -o out"),
    (["run", "in.jsonl", "-o", "out", "--api-key", "x"], "unknown option --api-key; set OPENAI_API_KEY"),
    (["run"], "expected INPUT, -o/--output, got none; write batchrun in.jsonl -o out.jsonl"),
    (["version"], "unknown command 'version'; write batchrun --version"),
    (["-V"], "unknown option -V; write batchrun --version"),
    (["fetch", "out"], "'fetch': no such file, and no such command; check the path"),  # not `check`, which is far
])  # fmt: skip
def test_the_first_words_of_other_tools_are_answered_by_name(arguments, says, ran, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert f"batchrun: {says}" in capsys.readouterr().err
    assert not ran
    Path(arguments[0]).touch()  # a file of that name is the input
    if arguments == ["run"]:
        assert main(["run", "-o", "out"]) == 7


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


def test_the_help_of_collect_names_what_matters_without_submits(capsys):
    with pytest.raises(SystemExit):
        main(["collect", "--help"])
    out = capsys.readouterr().out
    named = {word.strip("[],") for word in out.split() if word.strip("[],").startswith("--")}
    assert {"--journal", "--base-url", "--poll-rate", "--max-wait", "--write-off"} <= named
    assert not named & {
        "--rpm",
        "--tpm",
        "--submits",
        "--skip-bad",
        "--limit",
        "--retries",
        "--fresh",
        "--detach",
        "--set",
    }
    assert len(named) <= 25
    parser = Parser("batchrun collect")
    collect.add_arguments(parser)  # the options of the run that it follows are taken all the same
    assert parser.parse_args(["out.jsonl", "--rpm", "5", "--no-detach"]).rpm == 5


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
