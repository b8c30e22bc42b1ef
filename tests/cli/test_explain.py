import json
import subprocess
import sys

import pytest

from batchrun.cli import main
from batchrun.core.taxonomy.explain import explain
from batchrun.core.taxonomy.rules import KINDS, TAXONOMY, TAXONOMY_VERSION, WORDS, State
from batchrun.core.taxonomy.warning_words import WARNINGS


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("insufficient_quota", ["blocked_budget", "openai.RateLimitError", "halts", "retry  no"]),
        ("server_error", ["internal_error", "openai.InternalServerError", "at most twice"]),
        ("canceled", ["status word", "cancelled", "JobCancelled"]),
        ("max_output_tokens", ["incomplete", "LengthFinishReasonError", "raise the token cap"]),
        ("429", ["HTTP status", "rate_limited", "yes, up to --retries"]),
        ("RateLimitError", ["exception", "openai.RateLimitError", "rate_limit_exceeded"]),
        ("blocked_budget", ["state of a record", "insufficient_quota"]),
        ("418", ["418 (HTTP status)"]),
        ("JOB_STATE_SUCCEEDED", ["succeeded"]),
        ("ended", ["never success"]),
        ("billing_not_active", ["error code", "blocked_budget", "halts", "retry  no"]),
        ("usage_limit_exceeded", ["error code", "blocked_budget", "halts", "retry  no"]),
        ("server_overloaded", ["error code", "overloaded", "yes, up to --retries"]),
        ("overloaded_error", ["error code, error type", "overloaded", "yes, up to --retries"]),
        ("request_timeout", ["error code", "APITimeoutError", "at most twice"]),
        ("InProgress", ["status word", "in progress", "keep polling"]),
        ("notRunning", ["status word", "in progress", "keep polling"]),
        ("NotStarted", ["status word", "in progress", "keep polling"]),
        ("preprocessing", ["status word", "in progress", "keep polling"]),
        ("deleted", ["status word", "expired", "JobExpired"]),
        ("stopped", ["status word", "cancelled", "JobCancelled"]),
        ("501", ["HTTP status", "rejected", "retry  no", "nothing was created"]),
        ("505", ["HTTP status", "rejected", "retry  no", "nothing was created"]),
        ("529", ["HTTP status", "overloaded", "yes, up to --retries"]),
        ("504", ["504 (HTTP status)", "at most twice"]),
        ("contradictory_status", ["error code of batchrun itself", "failed", "retry  no"]),
        ("duplicate_job_id", ["error code of batchrun itself", "unconfirmed", "retry  no"]),
        ("LengthFinishReasonError", ["exception", "openai.LengthFinishReasonError", "max_output_tokens"]),
        ("truncated", ["warning of a record", "cut off"]),
        ("incomplete_message", ["warning of a record", "marked incomplete"]),
        ("tool_failed:mcp_call", ["tool_failed:mcp_call (warning of a record)", "a tool gave no result"]),
        ("stream_overridden", ["stream_overridden (warning of a record)", "is set by batchrun"]),
        ("id_changed", ["warning of a record", "another id"]),
    ],
)
def test_a_word_is_explained(word, says, capsys):
    assert main(["explain", word]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert all(" ".join(text.split()) in out for text in says), out


@pytest.mark.parametrize(
    ("word", "near"),
    [("insufficent_qota", "insufficient_quota"), ("ratelimiterror2", "RateLimitError"), ("nonsense", None)],
)
def test_an_unknown_word_leads_to_the_nearest(word, near, capsys):
    assert main(["explain", word]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"batchrun explain {near}" in err if near else "did you mean" in err


def test_h13_an_unknown_word_is_shown_safely(capsys):
    assert main(["explain", "\x1b[2Jx"]) == 2
    assert "\x1b" not in capsys.readouterr().err
    assert main(["explain", "tool_failed:\x1b[2Jx"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_every_known_word_is_explained():
    known = {rule.word for rule in TAXONOMY} | set(WORDS) | set(KINDS) | set(WARNINGS)
    known |= {state.value for state in State}
    assert [word for word in known if not explain(word)] == []


def test_the_whole_table_for_programs(capsys):
    assert main(["explain", "--all", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["version"] == TAXONOMY_VERSION
    assert len(table["rules"]) == len(TAXONOMY)
    assert table["warnings"] == WARNINGS
    assert set(table["rules"][0]) == {
        "word", "aspect", "exception", "sdk", "type", "http_status", "new_attempt", "billing_reason", "halts", "state", "advice",
        "retryable", "retries", "since",
    }  # fmt: skip
    quota, server, rate, added = (
        next(rule for rule in table["rules"] if rule["word"] == word)
        for word in ("insufficient_quota", "server_error", "rate_limit_exceeded", "billing_not_active")
    )
    assert [(one["retryable"], one["retries"]) for one in (quota, server, rate)] == [(False, 0), (True, 2), (True, 4)]
    assert (quota["since"], added["since"]) == (1, 2)


def test_the_whole_table_for_people_holds_every_word(capsys):
    assert main(["explain", "--all"]) == 0
    shown = capsys.readouterr().out.split()
    assert {rule.word for rule in TAXONOMY} | set(WARNINGS) <= set(shown)


def test_one_word_for_programs(capsys):
    assert main(["explain", "server_error", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == TAXONOMY_VERSION
    assert found["meanings"][0]["rule"]["sdk"] == "InternalServerError"


@pytest.mark.parametrize("arguments", [["explain"], ["explain", "x", "--all"]])
def test_one_word_or_all(arguments, capsys):
    assert main(arguments) == 2
    assert "expected one WORD, or --all" in capsys.readouterr().err


def test_the_schema_is_printed(capsys):
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "batchrun record"


def test_the_installed_command_runs_and_bears_a_closed_pipe():
    command = f"{sys.executable} -m batchrun explain --all | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"batchrun taxonomy, version {TAXONOMY_VERSION}\n", "")


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], []])
def test_help_and_version_end_well(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0
    assert capsys.readouterr().out


def test_an_unknown_command_is_named(capsys):
    with pytest.raises(SystemExit) as end:
        main(["explian"])
    assert end.value.code == 2
    assert "explian" in capsys.readouterr().err
