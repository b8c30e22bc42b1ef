"""Whatever a caller gives as rows, and what is refused because nobody could tell what it means."""

import asyncio
import datetime as dt
import json
import pathlib

import pytest

import batchrun
from batchrun import errors
from batchrun.api.rows import lines_of, path_of
from tests.api.stage import on, play


def lines(rows):
    async def collect():
        return [json.loads(line) async for line in lines_of(rows)]

    return asyncio.run(collect())


@pytest.mark.parametrize(
    "rows", ["in.jsonl", "IN.JSONL", "a b.ndjson", "in.jsonl.gz", "x/in.zst", "rows.json", "rows.txt", "rows.csv"]
)
def test_a_string_that_names_a_file_is_a_path(rows):
    assert path_of(rows) == rows


def test_a_path_object_is_a_path_whatever_its_name():
    assert path_of(pathlib.Path("say hello")) == "say hello"


@pytest.mark.parametrize("rows", ["say hello", "", "-", "in", "what is in\nthe file.jsonl", "in.xlsx"])
def test_a_string_that_could_be_either_is_refused_with_both_spellings(rows):
    with pytest.raises(errors.InputError) as caught:
        path_of(rows)
    shown = rows.replace("\n", "\\n")
    assert f"for one prompt write [{shown!r}]".replace("\\\\n", "\\\\n") in str(caught.value)
    assert "pathlib.Path(" in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({"prompt": "a"}, "for one row write [row]"),
        (b"a", "got bytes; decode them first"),
        (7, "got int"),
        ([b"a"], "row 1: expected a prompt or a mapping, got bytes"),
        (["a", ["b"]], "row 2: expected a prompt or a mapping, got list"),
        (["a", None], "row 2: expected a prompt or a mapping, got NoneType"),
        ([{"prompt": {1, 2}}], "row 1: expected what JSON can say, got set"),
        ([{"prompt": b"x"}], "got bytes: encode them first"),
        ([{("a", 1): 2}], "row 1: expected what JSON can say"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_row_is_refused_by_its_number(rows, told):
    with pytest.raises(errors.InputError) as caught:
        asyncio.run(batchrun.run(rows, service="compatible", model="m", progress=False))
    assert told in str(caught.value)


def test_what_refers_to_itself_is_refused():
    row = {"prompt": "a"}
    row["self"] = row
    with pytest.raises(errors.InputError, match="Circular"):
        lines([row])


def test_no_rows_at_all_is_a_mistake():
    with pytest.raises(errors.InputError, match="an empty list is a batch of no rows"):
        asyncio.run(batchrun.run(None))


def test_prompts_mappings_and_generators():
    wanted = [{"prompt": "a"}, {"custom_id": "b", "body": {"input": "é\u2028"}}]
    given = ["a", wanted[1]]

    async def later():
        for row in given:
            yield row

    for rows in (given, tuple(given), iter(given), (row for row in given), later(), dict(enumerate(given)).values()):
        assert lines(rows) == wanted


def test_values_that_json_does_not_know_but_has_a_word_for():
    when = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
    assert lines([{"prompt": "a", "when": when, "where": pathlib.Path("x/y")}]) == [
        {"prompt": "a", "when": "2026-11-20T00:00:00+00:00", "where": "x/y"}
    ]


def test_i08_i10_what_json_cannot_say_is_told_and_never_altered():
    async def scene(simulator):
        given = [{"prompt": "a", "temperature": float("nan")}, {"prompt": "half \ud800"}, {"prompt": "c", "n": 2**70}]
        records = await batchrun.run(given, skip_bad=True, **on(simulator))
        return [record.error and record.error.code for record in records]

    assert play(scene) == ["invalid_json", "invalid_unicode", None]


def test_a_frame_of_pandas():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"custom_id": ["a", "b"], "prompt": ["x", "y"], "temperature": [0.5, None], "max_output_tokens": [5, 6]},
        index=[7, 9],
    )
    assert lines(frame) == [
        {"custom_id": "a", "prompt": "x", "temperature": 0.5, "max_output_tokens": 5},
        {"custom_id": "b", "prompt": "y", "max_output_tokens": 6},
    ]
    assert lines(frame["prompt"]) == [{"prompt": "x"}, {"prompt": "y"}]
    assert lines(frame.astype("string"))[1] == {"custom_id": "b", "prompt": "y", "max_output_tokens": "6"}


def test_a_table_of_arrow():
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"prompt": ["x", "y"], "model": ["m", None]})
    assert lines(table) == [{"prompt": "x", "model": "m"}, {"prompt": "y"}]


def test_a_frame_of_polars():
    """By its shape: the package itself need not be there."""

    class Frame:
        columns = ("prompt", "model")

        def iter_rows(self, *, named):
            assert named
            yield from ({"prompt": "x", "model": "m"}, {"prompt": "y", "model": None})

    class Lazy:
        columns = ("prompt",)

        def collect(self):
            raise AssertionError

    assert lines(Frame()) == [{"prompt": "x", "model": "m"}, {"prompt": "y"}]
    with pytest.raises(errors.InputError, match=r"call .collect\(\) first"):
        lines(Lazy())
