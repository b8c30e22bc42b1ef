"""The closing summary for every way in which a run can end, and the lines before it."""

import json
import unicodedata
from dataclasses import replace

import pytest

from batchrun.cli.banner import start_lines, stopping
from batchrun.cli.run_result import RunResult, again, exit_code, next_commands
from batchrun.cli.summary import facts, summary
from batchrun.core.jobs.messages import Outcome
from batchrun.core.settings.settings import Settings
from batchrun.core.status.snapshot import Stalled, Unusual
from batchrun.core.taxonomy.explain import advice_of, worst_first
from batchrun.core.taxonomy.rules import HALT_ADVICE, HaltReason, State
from batchrun.core.text.readable import worded
from tests.core.snapshots import snapshot

COMMAND = ("in.jsonl", "-o", "out.jsonl")


def result(outcome=Outcome.COMPLETE, total=20, **more):
    counts = {name: more.pop(name) for name in list(more) if name in snapshot().__slots__}
    values = {
        "outcome": outcome, "total": total, "elapsed": 12.0, "output": "/data/out.jsonl",
        "journal": "/data/out.jsonl.journal", "arguments": COMMAND,
    }  # fmt: skip
    return RunResult(snapshot=snapshot(**counts), **(values | more))


def flat(ended):
    return " ".join(summary(ended).split())


MIXED = result(
    states={"succeeded": 14, "internal_error": 3, "blocked": 1, "unconfirmed": 2},
    codes={
        ("internal_error", "server_error"): 3, ("blocked", "content_policy_violation"): 1,
        ("unconfirmed", "answer_lost"): 2,
    },
    with_warnings=4,
)  # fmt: skip


def test_all_succeeded():
    assert summary(result(states={"succeeded": 20})) == (
        "complete: 20 of 20 rows done in 12 s\n  succeeded  20\n\nrecords: /data/out.jsonl"
    )


def test_some_did_not():
    assert summary(MIXED) == (
        "complete: 20 of 20 rows done in 12 s\n"
        "  succeeded       14\n"
        "  blocked          1   1 content_policy_violation\n"
        "  internal_error   3   3 server_error\n"
        "  unconfirmed      2   2 answer_lost\n"
        "4 rows succeeded with warnings; see `warnings`\n"
        "\n"
        "answer_lost: it may have been created and billed; --resubmit-unconfirmed sends\n"
        "             it again and may pay twice\n"
        "server_error: an internal error of the service; a retry often succeeds (at most\n"
        "              two are made)\n"
        "content_policy_violation: the content filter refused it; change the input\n"
        "\n"
        "next:\n"
        "  batchrun in.jsonl -o out.jsonl --retry-failed internal_error\n"
        "      retries the rows in these states\n"
        "  batchrun in.jsonl -o out.jsonl --resubmit-unconfirmed\n"
        "      sends the unconfirmed rows again; may pay twice\n"
        "  batchrun explain answer_lost\n"
        "      explains the most important error\n"
        "\n"
        "records: /data/out.jsonl"
    )


@pytest.mark.parametrize("reason", HaltReason)
def test_every_halt_shows_why_what_is_still_running_and_how_to_resume(reason):
    ended = result(
        Outcome.HALTED, states={"succeeded": 7}, halted=(reason.value, "the \x1bservice said so"), watched=312, total=1000,
        new_attempts=40,
    )  # fmt: skip
    text = " ".join(summary(ended).split())
    assert text.startswith("halted: 7 of 1,000 rows done in 12 s; 993 rows are left")
    assert f"{reason.value}: the \\x1bservice said so" in text
    assert worded(HALT_ADVICE[reason]) in text
    assert (
        "312 jobs are still running on the service and will be billed; the next run collects them and pays nothing twice"
        in text
    )
    goes_on = " --retry-budget 80" if reason is HaltReason.RETRY_BUDGET else ""
    assert f"next: batchrun in.jsonl -o out.jsonl{goes_on} resumes this batch" in text
    assert exit_code(ended) == 3
    assert facts(ended)["halted"]["reason"] == reason.value


PROFILE = '# Complete it\nname = "compatible"\n\n[read]\nid = "result.job_id"  # here "t1"\n'


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        (("--base-url", "http://x/v1"), "profile.toml"),
        (("--service", "compatible", "--base-url=http://x/v1"), "profile.toml"),
        (("--service=mine.toml",), "profile.toml"),
        (("--service", "profile.toml"), "new-profile.toml"),
        (("--service=profile.toml",), "new-profile.toml"),
    ],
)
def test_s27_the_drafted_profile_is_shown_as_it_is_to_be_saved_and_named_by_the_next_command(typed, name):
    halted = ("unknown response", "row 'a' ends as unconfirmed: HTTP 200")
    ended = result(
        Outcome.HALTED, states={"unconfirmed": 1}, codes={("unconfirmed", "answer_lost"): 1}, halted=halted,
        profile=PROFILE, arguments=(*COMMAND, *typed, "--rpm", "9"),
    )  # fmt: skip
    assert f"saved as {name}:\n\n{PROFILE}\n" in summary(ended)
    assert [command for command, _ in next_commands(ended)][:3] == [
        f"batchrun in.jsonl -o out.jsonl --rpm 9 --service {name}",
        f"batchrun in.jsonl -o out.jsonl {' '.join(typed)} --rpm 9 --keep-going",
        f"batchrun in.jsonl -o out.jsonl --rpm 9 --service {name} --resubmit-unconfirmed",
    ]


def test_the_retry_budget_that_was_typed_is_replaced():
    ended = result(
        Outcome.HALTED,
        arguments=(*COMMAND, "--retry-budget", "5", "--rpm", "9"),
        halted=("retry budget", ""),
        new_attempts=5,
    )
    assert next_commands(ended)[0][0] == "batchrun in.jsonl -o out.jsonl --rpm 9 --retry-budget 10"


@pytest.mark.parametrize(("signal", "word", "code"), [
    (2, "stopped by Ctrl-C", 130), (15, "stopped by SIGTERM", 143), (1, "stopped by SIGHUP", 129), (None, "stopped", 3),
])  # fmt: skip
def test_interrupted(signal, word, code):
    ended = result(Outcome.STOPPED, states={"succeeded": 19}, signal=signal, watched=1)
    assert summary(ended).startswith(f"{word}: 19 of 20 rows done in 12 s; 1 row is left\n")
    assert (
        "1 job is still running on the service and will be billed; the next run collects it and pays nothing twice"
        in flat(ended)
    )
    assert exit_code(ended) == code


def test_what_was_ended_by_a_quota_can_be_tried_again():
    """Its row has a record; the others of the halt have none and need no flag."""
    counts = {"states": {"blocked_budget": 2}, "codes": {("blocked_budget", "insufficient_quota"): 2}}
    ended = result(Outcome.HALTED, halted=("quota", "used up"), **counts)
    assert [command for command, _ in next_commands(ended)] == [
        "batchrun in.jsonl -o out.jsonl",
        "batchrun in.jsonl -o out.jsonl --retry-failed blocked_budget",
        "batchrun explain insufficient_quota",
    ]
    last = result(Outcome.HALTED, total=2, halted=("quota", "used up"), **counts)
    assert next_commands(last)[0][0].endswith("--retry-failed blocked_budget")


def test_a_write_that_failed():
    ended = result(
        Outcome.WRITE_FAILED, problem="out.jsonl: no space left", watched=3, halted=("write failed", "disk"), signal=2
    )
    text = summary(ended)
    assert flat(ended).startswith(
        "stopped, because the files could not be written: 0 of 20 rows done in 12 s; 20 rows are left "
    )
    assert "out.jsonl: no space left" in text
    assert "free space or fix the disk" in text
    assert "batchrun in.jsonl -o out.jsonl\n" in text
    assert exit_code(ended) == 4


def test_detached():
    ended = result(Outcome.DETACHED, watched=20)
    actual = summary(ended)
    assert actual.startswith("detached: 0 of 20 rows done")
    assert "20 jobs are still running on the service and will be billed" in actual
    assert "\n  batchrun cancel /data/out.jsonl --all\n" in actual
    assert exit_code(ended) == 0, "that nothing is finished yet is what was wanted"
    arguments = ["in.jsonl", "-o", "out.jsonl", "--detach", "--rpm", "60"]
    found = next_commands(result(Outcome.DETACHED, watched=20, arguments=arguments))
    assert [command for command, _ in found] == [
        "batchrun in.jsonl -o out.jsonl --rpm 60",
        "batchrun collect /data/out.jsonl",
        "batchrun cancel /data/out.jsonl --all",
    ]
    variable = next_commands(result(Outcome.DETACHED, watched=20))[0][0]
    assert variable == "batchrun in.jsonl -o out.jsonl --no-detach", "BATCHRUN_DETACH would detach again"
    assert exit_code(result(Outcome.DETACHED, watched=19, states={"rejected": 1})) == 1
    assert exit_code(result(Outcome.DETACHED, watched=19, signal=2)) == 130


@pytest.mark.parametrize(("outcome", "counts", "code"), [
    (Outcome.COMPLETE, {"states": {"succeeded": 20}}, 0),
    (Outcome.COMPLETE, {"states": {"succeeded": 20}, "signal": 2}, 0),  # it came too late
    (Outcome.COMPLETE, {"states": {"succeeded": 19, "rejected": 1}}, 1),
    (Outcome.COMPLETE, {"states_before": {"succeeded": 19, "failed": 1}}, 1),
    (Outcome.COMPLETE, {"states_before": {"succeeded": 20}}, 0),
    (Outcome.COMPLETE, {"total": 0}, 0),
    (Outcome.HALTED, {"signal": 15}, 143),
    (Outcome.PARTIAL, {"states": {"succeeded": 9}, "limited": True}, 0),
    (Outcome.PARTIAL, {"states": {"succeeded": 9, "failed": 1}, "limited": True}, 1),
    (Outcome.PARTIAL, {"states": {"succeeded": 9}}, 3),
    (Outcome.PARTIAL, {"states": {"succeeded": 9}, "total": None}, 3),
])  # fmt: skip
def test_exit_codes(outcome, counts, code):
    assert exit_code(result(outcome, **counts)) == code


def test_a_resumed_run_counts_the_whole_output():
    ended = result(states={"succeeded": 5}, states_before={"succeeded": 13, "expired": 2})
    text = summary(ended)
    assert text.startswith("complete: 20 of 20 rows done in 12 s, 15 of them by earlier runs\n")
    assert "whole batch:\n  succeeded  18\n  expired     2\n" in text
    assert "--retry-failed expired" in text


def test_this_run_and_the_whole_batch_are_told_apart():
    """The codes, the warnings and the counts of requests are those of this run, and stand with its rows."""
    ended = result(
        states={"succeeded": 4, "failed": 1},
        codes={("failed", "odd"): 1},
        states_before={"succeeded": 13, "failed": 2},
        with_warnings=1,
    )
    assert (
        "\nthis run:\n  succeeded   4\n  failed      1   1 odd\nwhole batch:\n  succeeded  17\n  failed      3\n"
        "1 row of this run succeeded with warnings" in summary(ended)
    )
    assert (facts(ended)["states"], facts(ended)["states_of_run"]) == (
        {"succeeded": 17, "failed": 3},
        {"succeeded": 4, "failed": 1},
    )
    idle = summary(result(states_before={"succeeded": 20}))
    assert "whole batch:\n  succeeded  20" in idle
    assert "this run" not in idle


def test_the_retry_budget_counts_the_retries_of_all_runs():
    ended = result(Outcome.HALTED, halted=("retry budget", ""), new_attempts=5, new_attempts_before=20)
    assert next_commands(ended)[0][0].endswith("--retry-budget 50")
    assert facts(ended)["requests"]["new_attempts"] == 5


def test_with_limit_the_same_command_takes_the_rest():
    ended = result(Outcome.PARTIAL, states={"succeeded": 5}, arguments=(*COMMAND, "--limit", "5"), limited=True)
    assert summary(ended).startswith("partial: 5 of 20 rows done")
    assert "; 15 rows are left\n" in summary(ended)
    assert next_commands(ended) == [("batchrun in.jsonl -o out.jsonl --limit 5", "resumes this batch")]
    assert exit_code(ended) == 0


def test_without_a_journal_it_says_so():
    ended = result(Outcome.STOPPED, output=None, journal=None, watched=4, signal=2, total=None)
    text = " ".join(summary(ended).split())
    assert text.startswith(
        "stopped by Ctrl-C: 0 rows done in 12 s 4 jobs are still running on the service and will be billed this run cannot be"
    )
    assert "with -o - give --journal FILE" in text
    assert "next:" not in text
    assert "records:" not in text


def test_many_codes_are_cut_and_shown_safely():
    codes = {("failed", f"code_{n}"): 10 - n for n in range(6)} | {("failed", "\x1b[2J"): 1}
    text = summary(result(states={"failed": 46}, codes=codes))
    assert "  failed  46   10 code_0, 9 code_1, 8 code_2, 7 code_3, 12 others\n" in text
    assert "\x1b" not in summary(result(states={"failed": 1}, codes={("failed", "\x1b[2J"): 1}))


def test_what_halts_comes_before_what_is_frequent():
    codes = {
        ("rejected", "invalid_prompt"): 900,
        ("unconfirmed", "answer_lost"): 2,
        ("blocked_budget", "insufficient_quota"): 1,
    }
    ranked = worst_first(codes)
    assert [code for _, code, _ in ranked] == ["insufficient_quota", "answer_lost", "invalid_prompt"]


@pytest.mark.parametrize("state", [state for state in State if state is not State.SUCCEEDED])
def test_there_is_advice_for_every_state_and_any_code(state):
    assert advice_of(state.value, "a_code_that_nobody_knows")
    assert state.value in summary(result(states={state.value: 1}, codes={(state.value, "x y"): 1}))


def test_lines_fit():
    for width in (60, 100):
        lines = summary(MIXED, width).splitlines()
        assert max(len(line) for line in lines if not line.startswith("  batchrun")) <= width


@pytest.mark.parametrize(("typed", "kept"), [
    ("in -o out --fresh --rpm 5", "in -o out --rpm 5"),
    ("in -o out --retry-failed", "in -o out"),
    ("in -o out --retry-failed timeout,failed --new-journal", "in -o out"),
    ("--retry-failed --repair in -o out", "in -o out"),
    ("in -o out --retry-failed=timeout --write-off --resubmit-unconfirmed", "in -o out"),
    ("in -o out --keep-going --demo", "in -o out --keep-going --demo"),
])  # fmt: skip
def test_flags_for_one_run_only_are_not_repeated(typed, kept):
    assert again(typed.split()) == kept.split()


def test_a_path_with_spaces_can_be_pasted():
    ended = result(Outcome.STOPPED, arguments=("my rows.jsonl", "-o", "out.jsonl"))
    assert next_commands(ended)[0][0] == "batchrun 'my rows.jsonl' -o out.jsonl"


KEYS = {
    "polling", "unusual", "stalled",
    "version", "outcome", "exit_code", "rows", "states", "states_of_run", "failures", "with_warnings", "requests", "jobs_going_on", "halted",
    "problem", "elapsed_s", "files", "next",
}  # fmt: skip


POLLED = {"polls_per_job": 2.94321, "mean_lag": 0.52}


def test_polls_and_lag_and_unusual_jobs_are_told():
    ended = result(
        Outcome.STOPPED, states={"succeeded": 20}, signal=2, watched=3, unusual=Unusual(3, "row-17", 2520.0), **POLLED
    )
    lines = summary(ended).splitlines()
    assert "2.9 polls per job, mean lag 0.5 s" in lines
    assert "3 jobs run unusually long, the oldest row-17, 42 min" in lines
    actual = facts(ended)
    assert actual["polling"] == {"polls_per_job": 2.943, "mean_lag_s": 0.52}
    assert actual["unusual"] == {"jobs": 3, "oldest": "row-17", "age_s": 2520.0}
    nothing = facts(result(states={"succeeded": 20}))
    assert nothing["polling"] == {"polls_per_job": None, "mean_lag_s": None}
    assert nothing["unusual"] is None


def test_jobs_that_have_not_ended_are_told_in_place_of_unusual_ones():
    stalled = Stalled(15, "row-3", 1020.0, 1020.0, 3)
    unusual = Unusual(16, "row-3", 1020.0)
    ended = result(Outcome.STOPPED, states={"succeeded": 20}, signal=2, watched=16, unusual=unusual, stalled=stalled)
    assert "15 jobs have not ended in 17 min, the oldest row-3" in summary(ended).splitlines()
    assert "unusually" not in summary(ended)
    assert facts(ended)["stalled"] == {"jobs": 15, "oldest": "row-3", "age_s": 1020.0}
    assert facts(result(states={"succeeded": 20}))["stalled"] is None


def test_of_few_rows_polls_and_lag_are_for_programs_alone():
    assert "per job" not in summary(result(states={"succeeded": 19}, **POLLED))
    assert facts(result(states={"succeeded": 19}, **POLLED))["polling"]["polls_per_job"] == 2.943


@pytest.mark.parametrize("outcome", Outcome)
def test_the_summary_as_json_has_every_key(outcome):
    actual = json.loads(json.dumps(facts(result(outcome, states={"failed": 1}, codes={("failed", "x"): 1}))))
    assert set(actual) == KEYS
    assert actual["outcome"] == outcome.value
    import batchrun.cli.summary as room

    assert all(f"    {key}" in room.__doc__ for key in KEYS)


def test_the_summary_as_json():
    actual = facts(MIXED)
    assert (actual["exit_code"], actual["rows"]) == (1, {"total": 20, "done": 20, "finished_before": 0, "open": 0})
    assert actual["states"] == {"succeeded": 14, "blocked": 1, "internal_error": 3, "unconfirmed": 2}
    assert [(one["code"], one["rows"]) for one in actual["failures"]] == [
        ("server_error", 3), ("answer_lost", 2), ("content_policy_violation", 1),
    ]  # fmt: skip
    assert actual["files"] == {"output": "/data/out.jsonl", "journal": "/data/out.jsonl.journal", "artifacts": None}
    assert "files: " not in summary(MIXED)
    stored = replace(MIXED, artifacts="images")
    assert facts(stored)["files"]["artifacts"] == "images"
    assert summary(stored).splitlines()[-1] == "files: images"
    assert actual["next"][0]["command"].endswith("--retry-failed internal_error")


# --- the first lines, and those at Ctrl-C ---


def start_text(settings=None, **more):
    actual = {
        "rows": 10_000,
        "finished": 0,
        "open_jobs": 0,
        "service": "openai",
        "origin": "https://api.openai.com",
        "resumed": False,
        "at_once": False,
    }
    return start_lines(settings or Settings(), **(actual | more))


def test_a_run_begins():
    first, limits = start_text()
    assert first == "running 10,000 rows: openai at https://api.openai.com"
    assert limits == "limits: 500 jobs and 32 POSTs in flight, 500 polls per second, 4 retries per row, 24 h per job"


def test_a_resumed_run():
    first, limits = start_text(
        Settings(rpm=600, tpm=2e6, retries=0, max_wait=3600), resumed=True, finished=1204, open_jobs=312
    )
    assert (
        first
        == "resuming 10,000 rows, 1,204 already finished, 312 jobs of earlier runs in flight: openai at https://api.openai.com"
    )
    for part in ("600 submits per minute", "2,000,000 tokens per minute", "no retries", "1 h in all"):
        assert part in limits


def test_what_is_still_running_is_collected():
    where = "openai at https://api.openai.com"
    actual = start_text(rows=None, resumed=True, finished=1, open_jobs=1_204)
    assert actual[0] == f"collecting 1,204 jobs of earlier runs; 1 row already finished: {where}"
    assert actual[1:] == ["limits: 500 polls per second, 24 h per job"]
    assert start_text(rows=None, resumed=True) == [f"collecting 0 jobs of earlier runs: {where}"]
    assert "POSTs" not in " ".join(actual)


def test_nothing_is_left():
    assert start_text(resumed=True, finished=10_000)[1:] == ["nothing is left to do; nothing is sent"]


def test_i01_an_empty_input_is_said_to_be_empty():
    assert start_text(rows=0) == ["0 rows: the input is empty, and nothing is sent"]


def test_a_limit_is_shown_where_it_matters():
    assert start_text(Settings(limit=5))[1] == "running 5 rows now (--limit); the others wait for the next run"
    assert len(start_text(Settings(limit=5), rows=5)) == 2


def test_no_more_jobs_than_can_be_polled_in_time():
    settings = Settings(concurrency=10_000, poll_rate=20)
    assert settings.max_jobs == 6_000
    limits, held = start_text(settings)[1:]
    assert "6,000 jobs and" in limits
    assert held.startswith("--concurrency 10,000 is limited to 6,000: --poll-rate 20 can poll no more jobs every 5 min")
    assert held.endswith("--poll-rate 34 is enough for all")
    assert len(start_text(Settings(concurrency=10_000, poll_rate=34))) == 2
    warning = start_text(Settings(poll_rate=20), open_jobs=9_000)[-1]
    assert warning.startswith(
        "warning: with --poll-rate 20 each of 9,000 jobs in flight is polled only every 7 min 30 s"
    )
    assert warning.endswith("raise it to 30")


def test_where_rows_end_at_the_submit_no_polls_are_mentioned():
    limits = start_text(Settings.of({"rpm": 600.0}, at_once=True), at_once=True)[1:]
    assert limits == ["limits: 64 POSTs in flight, 600 submits per minute, 4 retries per row, 10 min per POST"]
    assert len(start_text(Settings(concurrency=10_000, poll_rate=20), at_once=True)) == 2


def test_a_detached_run_shows_what_it_does_not_do():
    actual = start_text(Settings(detach=True))
    assert (
        actual[1]
        == "detaching: every row is submitted and none is polled; collect the results before the service deletes them"
    )
    assert "jobs and" not in actual[2]
    assert "polls per second" not in actual[2]


def test_text_from_outside_is_shown_safely():
    assert "\x1b" not in start_text(origin="https://\x1b[2J")[0]


def test_at_ctrl_c():
    waits = "stopping: waiting for 12 submits in flight, 30 s at most; Ctrl-C again quits at once"
    assert stopping(12, Settings(), 500) == waits
    assert stopping(0, Settings(), 500) == "stopping; Ctrl-C again quits at once"
    ends = "stopping: cancelling 500 jobs on the service, 40 s at most; Ctrl-C again quits at once"
    assert stopping(12, Settings(cancel_on_interrupt=True), 500) == ends
    assert stopping(0, Settings(cancel_on_interrupt=True), 0) == "stopping; Ctrl-C again quits at once"


def test_what_collect_could_not_do_is_left_to_a_run_that_sends():
    arguments = ["collect", "out.jsonl", "--demo"]
    ended = result(Outcome.PARTIAL, arguments=arguments, states={"succeeded": 18, "timeout": 1})
    assert summary(ended).startswith("partial: 19 of 20 rows done in 12 s; 1 row is left\n")
    assert "1 row is not sent, or waits for a retry; collect submits nothing" in summary(ended)
    assert exit_code(ended) == 3
    assert [command for command, _ in next_commands(ended)[:2]] == [
        "batchrun resume out.jsonl --demo", "batchrun resume out.jsonl --demo --retry-failed timeout",
    ]  # fmt: skip
    watched = result(Outcome.STOPPED, arguments=arguments, watched=2, states={"succeeded": 18})
    assert next_commands(watched)[0][0] == "batchrun collect out.jsonl --demo"


def test_posts_that_were_not_waited_for_are_mentioned():
    actual = " ".join(summary(result(Outcome.STOPPED, signal=2, submits_in_flight=3)).split())
    assert (
        "3 POSTs were in flight: their rows may have been sent and billed, and end as unconfirmed in the next run"
        in actual
    )
    one = " ".join(summary(result(Outcome.STOPPED, signal=2, submits_in_flight=1, journal=None)).split())
    assert "1 POST was in flight: its row may have been sent and billed" in one
    assert "unconfirmed" not in one


def test_jobs_whose_cancel_is_journaled_are_not_collected():
    actual = " ".join(summary(result(Outcome.STOPPED, signal=2, watched=5, to_end=5)).split())
    assert (
        "5 jobs were being cancelled and may still run on the service, billed; the next run ends them as cancelled"
        in actual
    )
    assert "collects" not in actual
    mixed = " ".join(summary(result(Outcome.STOPPED, signal=2, watched=5, to_end=1)).split())
    assert "1 job was being cancelled" in mixed
    assert "4 jobs are still running on the service and will be billed; the next run collects them" in mixed


# --- commands that work when typed as they are printed ---


ACCESS = ["--journal", "j", "--service=compatible", "--base-url", "http://[::1]/v1", "--key-file", "k", "--rpm", "5"]


def test_other_commands_on_the_batch_have_the_flags_for_its_files_service_and_key():
    stopped = result(Outcome.STOPPED, watched=4, signal=2, arguments=[*COMMAND, *ACCESS])
    cancel = (
        "batchrun cancel /data/out.jsonl --journal j --service=compatible --base-url 'http://[::1]/v1' --key-file k"
    )
    assert next_commands(stopped)[-1][0] == f"{cancel} --all"
    detached = result(Outcome.DETACHED, watched=4, arguments=["in.jsonl", "--demo", "-o", "out.jsonl", "--detach"])
    assert [command for command, _ in next_commands(detached)] == [
        "batchrun in.jsonl --demo -o out.jsonl",
        "batchrun collect /data/out.jsonl --demo",
        "batchrun cancel /data/out.jsonl --demo --all",
    ]


def test_an_input_that_came_through_a_pipe_is_not_asked_of_a_terminal():
    typed = ["-", "-o", "out.jsonl", "--rpm", "5", "--key-file", "k"]
    kept = result(Outcome.STOPPED, states={"timeout": 1}, arguments=typed, piped=True)
    assert [command for command, _ in next_commands(kept)] == [
        "batchrun resume /data/out.jsonl --rpm 5 --key-file k",
        "batchrun resume /data/out.jsonl --rpm 5 --key-file k --retry-failed timeout",
    ]
    gone = replace(kept, input_kept=False)
    assert next_commands(gone)[0][0] == "… | batchrun - -o out.jsonl --rpm 5 --key-file k"
    collected = result(
        Outcome.PARTIAL, arguments=["collect", "out.jsonl", "--rpm", "5"], input_kept=False, service_flags=["--demo"]
    )
    assert next_commands(collected)[0][0] == "… | batchrun - -o /data/out.jsonl --demo"


# --- the service's own words ---


def test_each_group_shows_a_row_and_what_the_service_said_of_it():
    group = ("rejected", "NotFoundError")
    said = 'model "gpt-9" not found,\x1b[2J try pulling it first: ' + "模型" * 40
    ended = result(states={"rejected": 20}, codes={group: 20}, samples={group: ("row-" + "7" * 60, said)})
    lines = summary(ended).splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith("NotFoundError: "))
    assert lines[at] == "NotFoundError: model, file or job does not exist"
    assert lines[at + 1].startswith("  row-7777")
    assert ': model "gpt-9" not found,\\x1b[2J' in lines[at + 1]
    assert lines[at + 1].endswith("…")
    assert columns(lines[at + 1]) <= 80
    assert facts(ended)["failures"][0]["sample"] == {"key": "row-" + "7" * 60, "message": said}
    assert facts(MIXED)["failures"][0]["sample"] is None


def test_a_code_that_nobody_knows_is_called_so():
    group = ("failed", "odd_code")
    text = summary(result(states={"failed": 1}, codes={group: 1}, samples={group: ("row-1", "it is odd")}))
    assert (
        "\nodd_code: a code of the service, unknown to batchrun; the rows ended as failed\n  row-1: it is odd\n" in text
    )


def columns(text):
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
