"""What a person reads of a batch, and a program: every way in which a run can stand or have ended."""

import json
import re
import sys
import time
from dataclasses import replace

import pytest

from batchrun.cli import main, status_json
from batchrun.cli import status as status_command
from batchrun.cli.status import _StatusScreen
from batchrun.cli.status_json import facts
from batchrun.cli.status_page import StatusPaths, moment, next_commands, page
from batchrun.core.journal.entries import (
    AttemptEnded,
    Cancelling,
    Cleared,
    Intent,
    RequestsAccepted,
    Rewrite,
    Started,
    Stopped,
    Submitted,
)
from batchrun.core.taxonomy.rules import HALT_ADVICE, HaltReason
from batchrun.core.text.readable import time_range, utc, worded
from batchrun.services.of_batch import run_id_for
from tests.core.journal.test_entries import HEADER
from tests.core.status.test_status import NOW, failed, record, stand
from tests.core.status.test_told_times import run_of

PLACE = StatusPaths("out.jsonl")
STARTED = Started(7, NOW - 3840, 1500)
OPEN = [
    *(Intent(f"o{i}", 1, "s", NOW - 5) for i in range(6)),
    *(Submitted(f"w{i}", 1, f"resp_{i}", NOW - 8 - i) for i in range(294)),
    AttemptEnded("r", 1, "resp_r", "internal_error", "server_error", "unknown", NOW, NOW),
]
USAGE = {"input_tokens": 12, "output_tokens": 90, "total_tokens": 102}
DONE = [
    *(record(f"s{i}", at=NOW - i, usage=USAGE) for i in range(711)),
    *(failed(f"i{i}", "incomplete", "max_output_tokens") for i in range(16)),
    *(failed(f"b{i}", "blocked", "content_policy_violation") for i in range(4)),
]


@pytest.fixture(autouse=True)
def in_utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def text(*entries, records=(), place=PLACE, width=100, **more):
    return "\n".join(page(stand([STARTED, *entries], records, **more), place, width))


def test_rows_that_were_refused_and_wait_are_told_while_a_run_is_on():
    refused = [entry for i in range(2) for entry in (Intent(f"r{i}", 1, "s", NOW - 9), Cleared(f"r{i}", 1, NOW - 8))]
    assert "2 rows were refused and wait to be sent again" in text(*refused, held=True, process=7)
    assert "1 row was refused and waits to be sent again" in text(*refused[:2], held=True, process=7)
    assert "to be sent again" not in text(*refused)


def flat(*entries, **more):
    return " ".join(text(*entries, **more).split())


def test_a_running_batch():
    lost = [Cleared(f"x{i}", 1, NOW - 100) for i in range(12)]
    assert text(*OPEN, *lost, records=DONE, held=True, process=7) == (
        "running, process 7, since 06:56 (1 h 4 min)\n"
        "731 of 1,500 rows done, 48%; about 11 min 59 s left\n"
        "\n"
        "  succeeded   711\n"
        "  incomplete   16   16 max_output_tokens\n"
        "  blocked       4   4 content_policy_violation\n"
        "\n"
        "  in flight   294   the oldest for 5 min 1 s: w293, resp_293\n"
        "  submitting    6\n"
        "  retrying      1\n"
        "  waiting     468\n"
        "\n"
        "  pace        1.2 submits and 64 records per minute, over 5 min\n"
        "  tokens      8,532 input, 63,990 output, 72,522 total\n"
        "  retries     1\n"
        "\n"
        "submits of the last 5 min: 12 refused or withdrawn\n"
        "\n"
        "max_output_tokens: raise the token cap of the request; the partial result was paid for and is in the\n"
        "                   record\n"
        "content_policy_violation: the content filter refused it; change the input\n"
        "\n"
        "next:\n"
        "  batchrun status out.jsonl --watch\n"
        "      shows the status until the run ends"
    )


def test_a_batch_whose_run_was_killed():
    actual = text(*OPEN, records=DONE[:1])
    assert actual.startswith(
        "ended unexpectedly after 08:00: killed, or a power or disk failure\n1 of 1,500 rows done, 0%; 1,499 rows are left\n"
    )
    assert "  maybe sent      6\n" in actual
    flat_text = " ".join(actual.split())
    assert "6 rows may have been sent, and the response is lost; the next run writes them as unconfirmed" in flat_text
    assert (
        "294 jobs are still running on the service and will be billed; the next run collects them and pays nothing twice"
        in flat_text
    )
    assert actual.endswith(
        "next:\n"
        "  batchrun resume out.jsonl\n      resumes this batch\n"
        "  batchrun collect out.jsonl\n      collects what is in flight; submits nothing\n"
        "  batchrun cancel out.jsonl --all\n      cancels what is in flight"
    )
    assert "pace" not in actual
    assert "about" not in actual


@pytest.mark.parametrize(
    ("last", "first_line"),
    [
        (Stopped("SIGHUP", NOW), "stopped by SIGHUP at 08:00"),
        (Stopped("SIGINT", NOW), "stopped by Ctrl-C at 08:00"),
        (Stopped("stopped", NOW), "stopped at 08:00"),
        (Stopped("stdout\x1b closed", NOW), "stopped at 08:00: stdout\\x1b closed"),
        (Stopped("detached", NOW - 86_400), "detached at 2027-01-14 08:00"),
        (Stopped("complete", NOW), "partial, ended at 08:00"),
    ],
)
def test_how_it_ended(last, first_line):
    assert text(last).splitlines()[:2] == [first_line, "0 of 1,500 rows done, 0%; 1,500 rows are left"]


def test_a_complete_batch():
    started = Started(7, NOW - 60, 3)
    records = [record("a"), failed("b", "internal_error", "server_error"), failed("c", "unconfirmed", "answer_lost")]
    actual = "\n".join(page(stand([started, Stopped("complete", NOW)], records), PLACE, 100))
    assert actual.startswith("complete at 08:00\n3 of 3 rows done, 100%\n\n  succeeded")
    assert actual.endswith(
        "next:\n"
        "  batchrun resume out.jsonl --retry-failed internal_error\n      retries the rows in these states\n"
        "  batchrun resume out.jsonl --resubmit-unconfirmed\n      sends the unconfirmed rows again; may pay twice\n"
        "  batchrun explain answer_lost\n      explains the most important error"
    )


@pytest.mark.parametrize("reason", HaltReason)
def test_a_halt_is_shown_with_what_to_do(reason):
    message = f"{reason.value}: the \x1bservice: said so"
    halted = flat(Stopped("halted", NOW, message))
    assert halted.startswith(f"halted at 08:00: {reason.value}: the \\x1bservice: said so ")
    assert worded(HALT_ADVICE[reason]) in halted
    stopped = flat(Stopped("SIGINT", NOW, message))
    assert stopped.startswith("stopped by Ctrl-C at 08:00 ")
    assert f"{reason.value}: the \\x1bservice: said so {worded(HALT_ADVICE[reason])}" in stopped


def test_an_unknown_halt_is_shown_as_it_is_written():
    assert "halted at 08:00: tomorrow's: why" in text(Stopped("halted", NOW, "tomorrow's: why"))
    assert "halted at 08:00: why" in text(Stopped("halted", NOW, "why"))


def test_a_run_that_starts():
    assert text(held=True, process=8).startswith("a run is starting, process 8\n0 of 1,500 rows done, 0%\n")


def test_what_else_there_is_to_know():
    actual = flat(RequestsAccepted(3, all=True), Rewrite(1, {}), records=[record("a", warnings=["refusal"])])
    for note in (
        "1 row succeeded with warnings", "all rows without a record end as cancelled",
        "a rewriting was interrupted; the next run finishes it",
    ):  # fmt: skip
        assert note in actual
    assert "the output is being rewritten" in flat(Rewrite(1, {}), held=True, process=7)
    gone = replace(stand([STARTED]), gone=2)
    assert "2 records that are in the journal are missing from the output; the next run polls for them" in " ".join(
        page(gone, PLACE, 200)
    )


@pytest.mark.parametrize("width", [40, 80])
def test_lines_fit_and_nothing_from_outside_moves_the_cursor(width):
    key, job_id = "k\x1b[2J\u202e" + "x" * 900, "resp_" + "y" * 900
    hostile = [
        Submitted(key, 1, job_id, NOW - 9),
        Cancelling("c\r", 1, "user", NOW),
        Stopped("SI\x1bG", NOW, "quo\nta: \x07"),
    ]
    lines = page(stand([STARTED, *hostile], [failed("a", "failed", "\x9b31m code")]), PLACE, width)
    assert max(map(len, lines[: lines.index("next:")])) <= width, "commands are to be copied and stay whole"
    assert all(line.isprintable() for line in lines), lines


def test_commands_for_the_files_and_the_service_at_hand():
    def commands(place=PLACE, *, held=False, **header):
        found = replace(stand([STARTED, *OPEN], held=held, process=7), header=replace(HEADER, **header))
        return [command for command, _ in next_commands(found, place)]

    plain = ["batchrun resume out.jsonl", "batchrun collect out.jsonl"]
    assert commands()[:2] == commands(service="demo")[:2] == plain
    local = "http://127.0.0.1:1/v1"
    assert commands(service="compatible", origin=local, key_fingerprint="")[:2] == plain
    assert commands(service="compatible", origin=local)[0] == (
        f"batchrun resume out.jsonl --service compatible --base-url {local}"
    ), "nothing ties its port to the API key"
    assert commands(StatusPaths("out.jsonl", input_is_kept=False), service="demo")[0] == (
        "… | batchrun - -o out.jsonl --demo"
    )
    origin = "https://api.example/$(x)/v1"
    flags = f"--service compatible --base-url '{origin}'"
    unknown = commands(service="compatible", origin=origin)
    assert unknown[0] == f"batchrun resume out.jsonl {flags}", "of an older release: the API key alone does not do"
    assert unknown[2] == f"batchrun cancel out.jsonl --all {flags}"
    run_id = run_id_for("0" * 16, "compatible", origin)
    assert commands(service="compatible", origin=origin, run_id=run_id)[:2] == plain
    keyless = commands(service="compatible", origin=origin, run_id=run_id, key_fingerprint="")
    assert keyless[0] == f"batchrun resume out.jsonl {flags}"
    assert commands(service="mine")[0] == "batchrun resume out.jsonl --service FILE.toml"
    elsewhere = commands(StatusPaths("my out.jsonl", "j"))
    assert elsewhere[0] == "batchrun resume 'my out.jsonl' --journal j"
    assert elsewhere[2] == "batchrun cancel 'my out.jsonl' --journal j --all"
    piped = commands(StatusPaths("out.jsonl", input_is_kept=False))
    assert piped[0] == "… | batchrun - -o out.jsonl"
    piped = commands(StatusPaths("out.jsonl", "j", input_is_kept=False))
    assert piped[0] == "… | batchrun - -o out.jsonl --journal j"
    assert commands(held=True) == ["batchrun status out.jsonl --watch"], "nothing that harms a healthy run"
    assert commands(StatusPaths("out.jsonl", watched=True), held=True) == []


def test_a_moment_of_another_day_has_its_date():
    assert (moment(NOW, NOW + 3600), moment(NOW, NOW + 86_400)) == ("08:00", "2027-01-15 08:00")


# --- JSON ---


@pytest.mark.parametrize(
    "found",
    [
        stand([STARTED, *OPEN], DONE, held=True, process=7),
        stand([STARTED, *OPEN, Stopped("halted", NOW, "quota: no more")], DONE),
        stand([Started(7, NOW, None)]),
        stand([]),
    ],
    ids=["running", "halted", "collected", "nothing yet"],
)
def test_the_json_has_every_key_that_is_documented_and_no_other(found):
    actual = json.loads(json.dumps(facts(found, PLACE, "/o", "/o.journal")))
    documented = re.findall(r"^    ([a-z_]+) ", status_json.__doc__, re.MULTILINE)
    assert list(actual) == documented
    assert actual["run"].keys() == {"state", "process", "since", "until", "reason"}
    assert actual["stages"].keys() == {"waiting", "retrying", "submitting", "watching", "cancelling"}


def test_the_json_of_a_running_batch():
    actual = facts(stand([STARTED, *OPEN], DONE, held=True, process=7), PLACE, "/o", "/o.journal")
    assert actual["rows"] == {"total": 1500, "done": 731, "open": 769}
    assert actual["stages"] == {"waiting": 468, "retrying": 1, "submitting": 6, "watching": 294, "cancelling": 0}
    assert actual["oldest"] == {
        "key": "w293",
        "job_id": "resp_293",
        "submitted_at": "2027-01-15T07:54:59.000Z",
        "age_s": 301.0,
    }
    assert actual["tokens"] == {"input": 8532, "output": 63990, "total": 72522}
    assert actual["per_minute"]["submits"] == 1.2
    assert actual["failures"][0]["rows"] == 16
    assert (actual["halted"], actual["run"]["until"]) == (None, None)


def test_polls_lag_time_left_and_unusual_jobs():
    found = run_of([1.0, 55.0, 3.0], total=1_000)
    low, high = found.forecast
    shown = "\n".join(page(found, PLACE, 80))
    assert f"40%; about {time_range(low, high)} left" in shown
    assert "  polls      3.0 per job, mean lag 0.5 s" in shown
    assert "1 job runs unusually long: o1, 55 s" in shown
    actual = facts(found, PLACE, "/o", "/o.journal")
    assert actual["polling"] == {"polls_per_job": 3.0, "mean_lag_s": 0.5}
    assert actual["unusual"] == {"jobs": 1, "oldest": "o1", "age_s": 55.0}
    assert actual["left_range_s"] == [round(low, 1), round(high, 1)]
    assert low < actual["left_s"] < high


def test_jobs_that_have_not_ended_are_told_from_the_files_alone():
    """Fifteen were submitted an hour ago, and no record of the run took half as long."""
    long = [Submitted(f"z{i}", 1, f"resp_z{i}", NOW - 3600 - i) for i in range(15)]
    recent = [Submitted("w", 1, "resp_w", NOW - 100)]
    found = stand([STARTED, *long, *recent], DONE[:20], held=True, process=7)
    assert "15 jobs have not ended in 1 h, the oldest z14" in page(found, PLACE, 80)
    assert facts(found, PLACE, "/o", "/o.journal")["stalled"] == {"jobs": 15, "oldest": "z14", "age_s": 3614.0}
    begun = stand([Started(7, NOW - 800, 1500), *long, *recent], DONE[:20], held=True, process=7)
    assert begun.stalled is None, "the run has not polled them for long"
    took_35_minutes = [record("s", at=NOW - 60, submitted_at=utc(NOW - 2160), polls=5)]
    assert stand([STARTED, *long], took_35_minutes, held=True, process=7).stalled is None


def test_jobs_that_the_service_fails():
    ended = [
        AttemptEnded(f"f{n}", 1, f"resp_f{n}", "internal_error", "server_error", "unknown", NOW, NOW - 60 + n)
        for n in range(30)
    ]
    found = stand([STARTED, *ended], held=True, process=7)
    assert (
        "30 of the last 30 jobs failed by the service's own fault (server_error, since 1 min): "
        "rows like them wait, one at a time is sent until most succeed"
    ) in " ".join("\n".join(page(found, PLACE, 80)).split())
    actual = facts(found, PLACE, "/o", "/o.journal")
    assert actual["failing"] == {
        "failed": 30, "jobs": 30, "since": "2027-01-15T07:59:00.000Z", "code": "server_error"
    }  # fmt: skip


def test_the_json_of_a_halt():
    halted = facts(stand([STARTED, Stopped("halted", NOW, "quota: no: more")]), PLACE, None, "/j")["halted"]
    assert halted == {"reason": "quota", "message": "no: more", "advice": worded(HALT_ADVICE[HaltReason.QUOTA])}


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_counts_are_seen_at_any_width(width):
    shown = page(stand([STARTED, *OPEN], DONE, held=True, process=7), PLACE, width)
    for count in ("731 of 1,500 rows done, 48%", "  succeeded   711", "  in flight   294", "  waiting     468"):
        assert any(count in line for line in shown), count
    assert all(len(line) <= width for line in shown if not line.startswith("  batchrun "))


class Screen:
    """As much of a terminal as --watch uses: its rows, and where the cursor is."""

    def __init__(self, columns):
        self.columns, self.rows, self.y, self.x, self.wraps = columns, [""], 0, 0, True

    def write(self, text):
        for part in re.findall(r"\x1b\[\??[0-9]*[a-zA-Z]|[^\x1b]", text):
            self._take(part)

    def _take(self, part):
        match part:
            case "\r":
                self.x = 0
            case "\n":
                self.x, self.y = 0, self.y + 1
            case "\x1b[K" | "\x1b[J":
                at = min(self.x, self.columns - 1)  # after a full row the cursor is on its last character
                self.rows[self.y] = self.rows[self.y][:at]
                del self.rows[self.y + 1 if part.endswith("J") else len(self.rows) :]
            case "\x1b[?7l" | "\x1b[?7h":
                self.wraps = part.endswith("h")
            case _ if part.startswith("\x1b"):
                self.y -= int(part[2:-1])
            case _:
                if self.x == self.columns:
                    if self.wraps:
                        self.x, self.y = 0, self.y + 1
                    else:
                        self.x -= 1
                self._reach()
                self.rows[self.y] = f"{self.rows[self.y]:<{self.x}}"[: self.x] + part + self.rows[self.y][self.x + 1 :]
                self.x += 1
        self._reach()

    def _reach(self):
        self.rows += [""] * (self.y + 1 - len(self.rows))

    def flush(self):
        pass


def test_watching_shows_every_line_whole(monkeypatch):
    terminal = Screen(40)
    monkeypatch.setattr(status_command, "_size_of_terminal", lambda: (40, 12))
    monkeypatch.setattr(sys, "stdout", terminal)
    drawn = _StatusScreen()
    full, long = "14 of 60 rows done, 23%; about 19 s left", "  batchrun cancel " + "x" * 60
    assert len(full) == 40
    for lines in ([full, "2", "3"], [full, long, "4"], [long, full]):
        drawn.show(lines, last=False)
        assert "".join(terminal.rows) == "".join(lines)
    drawn.show([str(number) for number in range(30)], last=False)
    assert terminal.rows[:-1] == [*map(str, range(10)), "… 20 more lines: make the window higher"]
    drawn.show([full, "over"], last=True)
    assert terminal.rows == [full, "over", ""]


# --- the command ---


def test_without_a_batch_it_says_so_and_makes_no_file(tmp_path, capsys):
    assert main(["status", str(tmp_path / "out.jsonl")]) == 2
    assert "there is no batch here; run one with batchrun INPUT -o" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flags", [[], ["--watch"], ["--json", "--watch"]])
def test_a_batch_without_a_run_is_shown_once(flags, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    (tmp_path / "out.jsonl.journal").write_bytes(HEADER.to_line() + STARTED.to_line())
    assert main(["status", str(out), *flags]) == 0
    actual = capsys.readouterr().out
    if "--json" in flags:
        assert json.loads(actual)["run"]["state"] == "lost"
    else:
        assert actual.count("ended unexpectedly") == 1


def test_o04_files_that_are_refused(tmp_path, capsys):
    (tmp_path / "out.jsonl.journal").symlink_to("elsewhere")
    assert main(["status", str(tmp_path / "out.jsonl")]) == 4
    assert "found a symbolic link" in capsys.readouterr().err


def test_the_records_of_a_run_to_stdout_are_found(tmp_path, capsys):
    (tmp_path / "j").write_bytes(HEADER.to_line() + Started(7, NOW, 1).to_line())
    (tmp_path / "j.records").write_bytes(b'{"custom_id":"a","state":"succeeded"}\n')
    assert main(["status", "-", "--journal", str(tmp_path / "j")]) == 0
    assert "1 of 1 row done, 100%" in capsys.readouterr().out
