"""One call: rows in, records out, kept without being asked."""

import asyncio
import json
import logging
import os
import stat
import threading
from pathlib import Path

import pytest

import batchrun
from batchrun import errors
from batchrun.runner import session
from tests.api.stage import lines, on, play, rows


def test_records_come_in_the_order_of_the_rows():
    async def scene(simulator):
        for longest in (0.3, 3, 30):  # seconds; where the machine is too slow to end any other row before the first one
            given = [*rows(1, f"[[sleep {longest}]] x"), *rows(10, "[[sleep 0.01]] x")[1:]]
            records = await batchrun.run(given, **on(simulator))
            finished = [one["custom_id"] for one in map(json.loads, records.path.read_bytes().splitlines())]
            keys = [record.key for record in records]
            assert keys == [row["custom_id"] for row in given]
            if finished != keys:
                break
        assert finished != keys, "the output has them as they ended"

    play(scene)


def test_without_out_it_is_kept_and_the_same_call_finds_it_without_a_request(somewhere):
    async def scene(simulator):
        first = await batchrun.run(["a", "b"], **on(simulator))
        requests = simulator.statistics.posts, simulator.statistics.polls
        again = await batchrun.run(["a", "b"], **on(simulator))
        assert (simulator.statistics.posts, simulator.statistics.polls) == requests
        other = await batchrun.run(["a", "c"], **on(simulator))
        model = await batchrun.run(["a", "b"], **on(simulator, model="gpt-6"))
        assert simulator.statistics.posts == 6
        return first, again, other, model

    first, again, other, model = play(scene)
    assert again == first
    assert len({first.path, other.path, model.path}) == 3
    assert first.path.parts[0] == ".batchrun"
    for path in (somewhere / ".batchrun").rglob("*"):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    assert (somewhere / ".batchrun" / ".gitignore").read_text() == "*\n"


def test_an_edited_prompt_that_keeps_its_old_result_is_named(somewhere):
    """Nobody is given an old result for a new prompt without a word."""

    class Notes(batchrun.Observer):
        def __init__(self):
            self.notes = []

        def noted(self, text):
            self.notes.append(text)

    async def scene(simulator):
        first = await batchrun.run(rows(3, "old"), out="out.jsonl", **on(simulator))
        notes = Notes()
        edited = rows(3, "old")[:1] + rows(3, "new")[1:]
        more = {"accept_changes": True, "observers": notes}
        again = await batchrun.run(edited, out="out.jsonl", **more, **on(simulator))
        assert simulator.statistics.posts == 3
        return first, again, notes.notes

    first, again, notes = play(scene)
    assert again == first
    assert notes == ["2 changed rows had been sent before and their old results are kept: row-1, row-2"]


def test_fresh_begins_anew_and_keeps_the_old_records(somewhere):
    async def scene(simulator):
        for _ in range(2):
            await batchrun.run(["a", "b"], fresh=True, **on(simulator))
        return simulator.statistics.posts

    assert play(scene) == 4
    assert len(list((somewhere / ".batchrun").glob("2-rows-*/out.jsonl.2*"))) == 1


def test_out_names_the_file_and_false_keeps_nothing(somewhere):
    async def scene(simulator):
        kept = await batchrun.run(["a"], out="mine.jsonl", **on(simulator))
        nothing = await batchrun.run(["a"], out=False, **on(simulator))
        return kept, nothing

    kept, nothing = play(scene)
    assert batchrun.read("mine.jsonl") == kept
    assert (nothing.path, len(nothing)) == (None, 1)
    assert not (somewhere / ".batchrun").exists()


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("", "got ''; give a path, or False"),
        ("-", "got '-'; the command's standard output has no meaning here; give a path, or False"),
        (".", "the folder .; give a file in it"),
        (Path(), "the folder .; give a file in it"),
        (7, "got int; give a path"),
        (True, "got True"),
    ],
)
def test_an_out_that_names_no_file_is_refused_before_anything_is_written(out, told, somewhere):
    async def scene(simulator):
        with pytest.raises(errors.InputError, match=f"^out: expected .*{told}"):
            await batchrun.run(["a"], out=out, **on(simulator))
        with pytest.raises(errors.InputError, match=f"^out: expected .*{told}"):
            async with batchrun.open(out=out, **on(simulator)):
                pass

    play(scene)
    assert not list(somewhere.iterdir())


def test_it_says_in_one_line_where_it_is_kept(capsys):
    async def scene(simulator):
        await batchrun.run(["a"], **on(simulator, progress=True))
        await batchrun.run(["a"], **on(simulator, progress=True))
        await batchrun.run(["a"], out=False, **on(simulator, progress=True))
        await batchrun.run(["a"], **on(simulator, progress=False))

    play(scene)
    said = capsys.readouterr()
    one, two, three = said.err.splitlines()
    assert one.startswith("batchrun: 1 row; kept in .batchrun/1-row-")
    assert one.endswith("the same call resumes from there")
    assert "1 done by earlier runs" in two
    assert "nothing is kept (out=False)" in three
    assert "lost" in three
    assert said.out == ""


def test_a_bar_where_somebody_looks(capsys, monkeypatch):
    from batchrun.api import observers as bar

    monkeypatch.setattr(bar, "_can_be_seen", lambda: True)

    async def scene(simulator):
        await batchrun.run(rows(5), **on(simulator, progress=True))
        async with batchrun.open(rows(1), out="x.jsonl", **on(simulator, progress=True)) as batch:
            await batch.submit("b")

    play(scene)
    said = capsys.readouterr().err
    assert "5/5" in said
    assert "5 ok" in said
    assert "2/2" in said


def test_a_file_is_known_by_its_path_so_that_rows_may_be_appended(somewhere):
    file = somewhere / "in.jsonl"

    async def scene(simulator):
        file.write_text('{"prompt": "a"}\n')
        first = await batchrun.run("in.jsonl", **on(simulator))
        with file.open("a") as more:
            more.write('{"prompt": "b"}\n')
        both = await batchrun.run(file, **on(simulator))
        assert simulator.statistics.posts == 2
        return first, both

    first, both = play(scene)
    assert (len(first), len(both), first.path) == (1, 2, both.path)
    assert both[0] == first[0]


def test_the_demo_is_kept_apart_from_what_is_paid_for():
    async def scene(simulator):
        rehearsed = await batchrun.run(["[[sleep 10ms]] a"], demo=True, model="gpt-5", progress=False, poll_min=0.05)
        paid = await batchrun.run(["[[sleep 10ms]] a"], **on(simulator))
        return rehearsed, paid, simulator.statistics.posts

    rehearsed, paid, posts = play(scene)
    assert rehearsed.path != paid.path
    assert posts == 1


def test_settings_come_from_the_call_then_the_environment(monkeypatch):
    monkeypatch.setenv("BATCHRUN_MODEL", "gpt-env")
    monkeypatch.setenv("BATCHRUN_SET", "temperature=0.5")

    async def scene(simulator):
        arguments = on(simulator)
        del arguments["model"]
        by_variable = await batchrun.run(["a"], **arguments)
        by_call = await batchrun.run(["a"], **arguments, model="gpt-call", set={"user": "me", "top_p": 0.25})
        return by_variable[0].model, by_call[0].model

    assert play(scene) == ("gpt-env", "gpt-call")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"concurrency": 0}, "concurrency: expected a number above 0, got 0"),
        ({"deadline": "soon"}, "deadline: expected a time such as 90s, 5m or 24h, got 'soon'; write deadline='24h'"),
        ({"skip_bad": "perhaps"}, "skip_bad: expected yes or no, got 'perhaps'; write skip_bad=True"),
        ({"concurrency": 2.5}, "concurrency: expected a whole number, got 2.5; write concurrency=500"),
        ({"concurrency": True}, "concurrency: expected a whole number, got True; write concurrency=500"),
        ({"model": 5}, "model: expected text, got int; write model='gpt-5'"),
        ({"retry_failed": ["timeuot"]}, "did you mean timeout"),
        ({"poll_max": "31m"}, "poll_max: expected at most 1800 s"),
        ({"service": "opnai"}, "service: there is no service 'opnai'; did you mean openai?"),
        ({"base_url": "ftp://x"}, "base_url: expected https://HOST"),
        ({"set": {"stream": True}}, 'set={"stream": …} is refused'),
        ({"detach": True, "concurrency": 5}, "concurrency=5: expected none with detach, which puts"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_in_the_callers_words(given, told):
    with pytest.raises(errors.SettingsError) as caught:
        asyncio.run(batchrun.run(["a"], **({"service": "compatible"} | given)))
    assert told in str(caught.value)
    assert "--" not in str(caught.value)


def test_a_variable_that_makes_no_sense_is_named_and_not_an_argument(monkeypatch):
    monkeypatch.setenv("BATCHRUN_RPM", "0")
    with pytest.raises(
        errors.SettingsError, match=r"^BATCHRUN_RPM: expected a number above 0, got 0\.0; write BATCHRUN"
    ):
        batchrun.open(["a"])
    with pytest.raises(errors.SettingsError, match=r"^rpm: expected a number above 0, got 0; write rpm=600"):
        batchrun.open(["a"], rpm=0)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SERVICE", "opnai", "BATCHRUN_SERVICE: there is no service 'opnai'; did you mean openai?"),
        ("BASE_URL", "http://x", "BATCHRUN_BASE_URL: expected https, got .*; write https://, or pass allow_http=True"),
        ("TOKEN_COMMAND", "'", "BATCHRUN_TOKEN_COMMAND: expected a command line"),
        ("CONCURRENCY", "5", "BATCHRUN_CONCURRENCY=5: expected none with detach, .*; leave it out, or .* limit=N"),
    ],
)
def test_a_variable_that_is_refused_further_in_is_named_as_well(monkeypatch, name, value, told):
    monkeypatch.setenv(f"BATCHRUN_{name}", value)
    given = {} if name == "SERVICE" else {"service": "compatible"}
    with pytest.raises(errors.SettingsError, match=f"^{told}"):
        asyncio.run(batchrun.run(["a"], detach=True, progress=False, **given))


def test_an_input_that_is_the_output_is_refused():
    Path("in.jsonl").write_text('{"model": "m", "input": "x"}\n')
    with pytest.raises(
        errors.InputError,
        match=r"expected a file of its own, found the input 'in\.jsonl'; choose another output with out=…",
    ):
        asyncio.run(batchrun.run("in.jsonl", out="in.jsonl", demo=True, progress=False))


def test_a_name_that_is_no_setting_is_met_with_the_nearest():
    with pytest.raises(TypeError, match="unknown setting 'concurency'; did you mean concurrency"):
        batchrun.open(["a"], concurency=5)
    with pytest.raises(TypeError, match="did you mean observers"):
        batchrun.open(["a"], observer=None)
    with pytest.raises(TypeError, match="unknown setting 'resume'; leave it out: with the same input and output"):
        batchrun.open(["a"], resume=True)
    with pytest.raises(TypeError, match=r"unknown setting 'max_workers'; write concurrency=64$"):
        batchrun.open(["a"], max_workers=8)
    with pytest.raises(TypeError, match=r'it is a field of the body: write set={"temperature": VALUE}$'):
        batchrun.open(["a"], temperature=0)


def test_bad_rows_are_told_by_their_number_and_nothing_is_left(somewhere):
    async def scene(simulator):
        with pytest.raises(errors.InputError) as caught:
            await batchrun.run(["a", {"foo": 1}, {"custom_id": True, "prompt": "x"}], **on(simulator))
        assert simulator.statistics.posts == 0
        return str(caught.value)

    said = play(scene)
    assert said.startswith("the rows: 2 of 3 rows are bad and nothing was sent:\n  row 2: no_body:")
    assert "  row 3: invalid_custom_id:" in said
    assert said.endswith("fix them, or run the others with skip_bad=True")
    assert [path.name for path in (somewhere / ".batchrun").iterdir()] == [".gitignore"]


def test_bad_rows_become_records_where_that_is_wanted():
    async def scene(simulator):
        return await batchrun.run(["a", {"foo": 1}, "b"], **on(simulator, skip_bad=True))

    assert [record.state for record in play(scene)] == ["succeeded", "rejected", "succeeded"]


def test_a_halt_raises_with_the_records_so_far_and_the_same_call_goes_on():
    async def scene(simulator):
        with pytest.raises(batchrun.Halted) as caught:
            await batchrun.run(rows(8), **on(simulator, submits=2))
        halted = caught.value
        assert halted.reason == "quota"
        assert (len(halted.records), halted.remaining) == (3, 5)
        assert "the same call resumes" in str(halted)
        assert "--" not in str(halted)
        assert "top up" in halted.advice
        from batchrun.simulator import parse

        simulator.use(parse("[times]\nduration = '30ms'\n"))
        records = await batchrun.run(rows(8), **on(simulator))
        assert records.ok == records
        assert set(simulator.statistics.jobs_per_row().values()) == {1}

    play(scene, "[times]\nduration = '30ms'\n[limits]\nquota = 3\n")


def test_a_batch_that_runs_already_is_refused_by_its_process():
    async def scene(simulator):
        async with batchrun.open(["[[sleep 300ms]] a"], out="x.jsonl", **on(simulator)):
            with pytest.raises(errors.FilesError, match=f"process {os.getpid()}"):
                await batchrun.run(["[[sleep 300ms]] a"], out="x.jsonl", **on(simulator))
            assert simulator.statistics.posts <= 1

    play(scene)


def test_of_equal_calls_at_one_moment_one_works_and_the_others_are_told():
    async def scene(simulator):
        for _ in range(5):
            calls = [batchrun.run(["a", "b"], fresh=True, **on(simulator)) for _ in range(3)]
            ended = await asyncio.gather(*calls, return_exceptions=True)
            (worked,) = [one for one in ended if isinstance(one, batchrun.Records)]
            assert len(worked.ok) == 2
            told = [str(one) for one in ended if isinstance(one, errors.FilesError)]
            assert len(told) == 2
            assert all(f"process {os.getpid()}, is using this output" in one for one in told)
        return simulator.statistics.posts

    assert play(scene) == 10


def test_a_second_batch_on_one_output_takes_nothing_from_the_first(somewhere, monkeypatch):
    locked, refused, real = threading.Event(), threading.Event(), session.open_batch

    def open_batch(*given, **named):
        batch = real(*given, **named)
        locked.set()
        refused.wait(5)
        return batch

    monkeypatch.setattr(session, "open_batch", open_batch)

    async def scene(simulator):
        first = asyncio.create_task(batchrun.run(rows(8), **on(simulator, out="out.jsonl")))
        await asyncio.to_thread(locked.wait, 5)
        with pytest.raises(errors.FilesError, match="is using this output"):
            await batchrun.run(["another"], **on(simulator, out="out.jsonl"))
        refused.set()
        return await first

    records = play(scene)
    assert [record.key for record in records.ok] == [f"row-{n}" for n in range(8)]
    assert [row["custom_id"] for row in lines(somewhere / "out.jsonl.input")] == [record.key for record in records]


def test_rows_of_no_number_are_a_batch_too():
    async def scene(simulator):
        async def later():
            for n in range(3):
                await asyncio.sleep(0)
                yield f"prompt {n}"

        return len(await batchrun.run([], **on(simulator))), len(await batchrun.run(later(), **on(simulator)))

    assert play(scene) == (0, 3)


def test_limit_takes_some_now_and_the_rest_at_the_next_call():
    async def scene(simulator):
        some = await batchrun.run(rows(5), limit=2, **on(simulator))
        return len(some), len(await batchrun.run(rows(5), **on(simulator)))

    assert play(scene) == (2, 5)


class Listens(batchrun.Observer):
    def __init__(self):
        self.heard = []
        self.stats = None

    def recorded(self, record):
        self.heard.append(record.key)

    def progressed(self, stats):
        self.stats = stats


class Raises:
    def recorded(self, record):
        raise RuntimeError("a hook of mine")

    def progressed(self, stats):
        raise RuntimeError("another")


def test_observers_hear_of_what_is_safe_and_cannot_hurt(caplog):
    listens = Listens()

    async def scene(simulator):
        records = await batchrun.run(rows(5), observers=[Raises(), listens], **on(simulator))
        await batchrun.run(rows(5), observers=Raises(), **on(simulator))
        return records

    with caplog.at_level(logging.ERROR, "batchrun"):
        records = play(scene)
    assert sorted(listens.heard) == sorted(record.key for record in records)
    assert listens.stats.done == 5
    assert len([entry for entry in caplog.records if "Raises.recorded" in entry.message]) == 1, "said once"


@pytest.mark.parametrize("raised", [asyncio.CancelledError, GeneratorExit, BaseException])
def test_an_observer_cannot_cancel_the_run(raised, caplog):
    class Cancels(batchrun.Observer):
        def recorded(self, record):
            raise raised

        progressed = recorded

    async def scene(simulator):
        return await batchrun.run(rows(5), observers=Cancels(), **on(simulator))

    with caplog.at_level(logging.ERROR, "batchrun"):
        assert len(play(scene).ok) == 5
    assert len([entry for entry in caplog.records if "Cancels.recorded raised" in entry.message]) == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (Listens, r"the class Listens: write Listens\(\)"),
        ([Listens], r"the class Listens: write Listens\(\)"),
        (7, "got int"),
        (print, "got builtin_function_or_method"),
        ([Listens(), None], "got NoneType"),
        ("me", "got str"),
    ],
)
def test_what_nobody_could_tell_is_no_observer(given, told, somewhere):
    with pytest.raises(errors.SettingsError, match=rf"observers: expected a batchrun\.Observer .*{told}"):
        batchrun.open(["a"], observers=given)
    assert not list(somewhere.iterdir())


def test_in_a_script_and_under_a_running_loop(somewhere):
    demo = {"demo": True, "model": "gpt-5", "progress": False, "poll_min": 0.05}
    assert batchrun.run_sync(["[[sleep 10ms]] a"], **demo)[0].ok

    async def main():
        return batchrun.run_sync(["[[sleep 10ms]] b"], **demo)

    assert asyncio.run(main())[0].ok


def test_what_stops_it_in_a_script_is_what_stops_it_elsewhere():
    with pytest.raises(errors.InputError, match="say hello"):
        batchrun.run_sync("say hello")
    with pytest.raises(errors.SettingsError, match="no API key for openai"):
        batchrun.run_sync(["a"], model="gpt-5", progress=False)


def test_a_failed_disk_is_told_and_the_next_call_completes(monkeypatch):
    async def scene(simulator):
        real, left = os.fdatasync, [6]

        def sync(descriptor):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            real(descriptor)

        with monkeypatch.context() as broken:
            broken.setattr(os, "fdatasync", sync)
            with pytest.raises(errors.FilesError, match="No space left on device"):
                await batchrun.run(rows(6), **on(simulator))
        records = await batchrun.run(rows(6), **on(simulator))
        assert max(simulator.statistics.posts_per_row().values()) == 1
        assert len(records) == 6

    play(scene)


def test_images_as_files_beside_the_records(somewhere):
    async def scene(simulator):
        return await batchrun.run(["[[image]] a cover"], artifacts="images", **on(simulator))

    record = play(scene)[0]
    (file,) = (somewhere / "images").iterdir()
    assert record.images() == [file.read_bytes()]
    assert record.images()[0].startswith(b"\x89PNG")
    assert record.artifacts[0]["media_type"] == "image/png"


def test_an_interrupt_may_cancel_what_runs_over_there():
    slow = [{**row, "body": {**row["body"], "input": "[[sleep 2h]] x"}} for row in rows(3)]

    async def scene(simulator):
        settings = on(simulator, cancel_on_interrupt=True, cancel_settle=0.05)
        task = asyncio.ensure_future(batchrun.run(slow, **settings))
        while simulator.statistics.jobs < 3:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(batchrun.Interrupted) as caught:
            await task
        assert {record.state for record in caught.value.records} == {"cancelled"}
        assert (simulator.statistics.cancels, caught.value.running_jobs) == (3, 0)

    play(scene)


def test_sent_now_and_collected_later():
    async def scene(simulator):
        sent = await batchrun.run(rows(5, "[[sleep 300ms]] x"), detach=True, **on(simulator))
        assert (len(sent), sent.running_jobs, simulator.statistics.posts) == (0, 5, 5)
        assert str(sent).splitlines() == [
            "0 records",
            "5 jobs are still running on the service and will be billed",
            "next: the same call without detach=True collects the records",
            f"kept in {sent.path}",
        ]
        assert "5 jobs are still running" in sent._repr_html_()
        records = await batchrun.run(rows(5, "[[sleep 300ms]] x"), **on(simulator))
        assert (len(records.ok), records.running_jobs, simulator.statistics.posts) == (5, 0, 5)
        assert "still running" not in str(records)

    play(scene)


def test_p22_results_that_are_none_have_a_warning_and_the_record_what_the_tool_said():
    async def scene(simulator):
        chat = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
        given = [
            *rows(1, "[[tool_failed]] a map"),
            {"custom_id": "short", "url": "/v1/chat/completions", "body": {**chat, "max_completion_tokens": 1}},
            {"custom_id": "long", "url": "/v1/chat/completions", "body": chat},
        ]
        return await batchrun.run(given, **on(simulator))

    failed, short, long = play(scene)
    assert [record.ok for record in (failed, short, long)] == [True] * 3
    assert (failed.warnings, failed.error) == (("tool_failed:image_generation_call",), None)
    (said,) = failed.tool_errors
    assert (said.tool, said.code, said.message) == (
        "image_generation_call",
        "server_error",
        "simulated: no image was generated",
    )
    assert (short.warnings, short.tool_errors) == (("truncated",), ())
    assert (long.warnings, long.tool_errors) == ((), ())
