"""Records as a program reads them, and what they say at a prompt."""

import base64
import csv
import html.parser
import json
import os
import pickle

import openai
import pytest

import batchrun
from batchrun import errors
from batchrun.core.records.record import (
    Attempt,
    LastRefusal,
    RecordLine,
    Refusals,
    Response,
    keys_of,
    moment,
    record_id,
)
from batchrun.core.responses.error import our_problem
from batchrun.core.responses.outcome import Billing, Usage
from batchrun.core.taxonomy.rules import State
from batchrun.results import tables
from batchrun.results.record import Record
from batchrun.results.records import Records

EVIL = '<script>alert("x")</script>\x1b[2J\u202e'


def record(key="row-1", state=State.SUCCEEDED, code=None, body=None, folder=None, message="it broke", **more):
    line = RecordLine(
        id=record_id("r", key),
        custom_id=key,
        state=state,
        job_id="resp_1",
        error=None if code is None else our_problem(code, message),
        response=None if body is None else Response(200, "req_1", json.dumps(body).encode()),
        submitted_at=moment(1_800_000_000.0),
        running_at=moment(1_800_000_001.5),
        finished_at=moment(1_800_000_003.0),
        queued_s=1.5,
        running_s=1.5,
        **more,
    )
    return Record(line.to_json(), folder)


def test_attributes_are_the_keys_of_the_line():
    one = record(
        output_text="hi", usage=Usage(3, 4, 7), warnings=("refusal",), metadata=b'{"n":1}', billing=Billing.BILLED,
        attempts=(Attempt("resp_0", State.TIMEOUT, "timeout", Billing.UNKNOWN),), body={"a": 1}, polls=3,
        model="gpt-5", status="completed", refusals=Refusals(2, LastRefusal("slow", "later", 429)),
    )  # fmt: skip
    assert (one.key, one.custom_id, one.state, one.ok, one.text, one.output_text) == ("row-1", "row-1", "succeeded", True, "hi", "hi")  # fmt: skip
    assert one.state is batchrun.State.SUCCEEDED
    assert (one.usage.total_tokens, one.warnings, one.metadata, one.polls) == (7, ("refusal",), {"n": 1}, 3)
    assert (one.attempts[0].state, one.attempts[0].code, one.retry_count) == (State.TIMEOUT, "timeout", 1)
    assert (one.body, one.http_status, one.request_id, one.error) == ({"a": 1}, 200, "req_1", None)
    assert (one.submitted_at.isoformat(), one.queued_s, one.running_s) == ("2027-01-15T08:00:00+00:00", 1.5, 1.5)
    assert (one.refusals, one.refusals.last.http_status) == (Refusals(2, LastRefusal("slow", "later", 429)), 429)
    assert (tables.row(one)["refusal_count"], tables.row(record())["refusal_count"]) == (2, 0)
    assert one.to_dict() == json.loads(one.to_json())
    assert {name for name in one.to_dict() if name != "response"} <= set(dir(one)), "every key is an attribute"
    assert one == pickle.loads(pickle.dumps(one))


def test_a_line_of_a_newer_version_is_read_and_keeps_what_it_says():
    line = json.loads(record(code="answer_lost", state=State.UNCONFIRMED).to_json())
    line |= {
        "price": {"usd": 1},
        "usage": {**line["usage"], "audio_tokens": 4},
        "error": {**line["error"], "hint": "x"},
    }
    line["attempts"] = [{"job_id": "a", "state": "failed", "code": None, "billing": "billed", "region": "eu"}]
    one = Record(json.dumps(line).encode())
    assert (one.error.code, one.usage, one.attempts[0].billing) == ("answer_lost", Usage(), Billing.BILLED)
    assert one.to_dict() == line
    assert json.loads(one.to_json()) == line
    assert tables.row(one)["error_code"] == "answer_lost"


@pytest.mark.parametrize(
    "key", [one.name for one in keys_of(RecordLine) if one.name not in ("id", "custom_id", "state")]
)
def test_a_line_of_an_older_version_lacks_a_key_and_has_its_default(key, tmp_path):
    whole = record(output_text="hi", usage=Usage(1, 2, 3), body={"a": 1}, metadata=b'{"n":1}', polls=2)
    line = {name: value for name, value in whole.to_dict().items() if name != key}
    path = tmp_path / "out.jsonl"
    path.write_text(json.dumps(line) + "\n")
    (one,) = batchrun.read(path)
    least = Record(RecordLine(id="", custom_id="", state=State.FAILED).to_json())
    if key == "response":
        assert (one.body, one.http_status, one.request_id, one.images()) == (None, None, None, [])
    else:
        assert getattr(one, key) == getattr(least, key)
    assert (one.key, one.ok, repr(one)[:8]) == ("row-1", True, "<Record ")
    assert one.to_dict() == line
    assert tables.row(one).keys() == set(tables.COLUMNS)


def test_a_body_is_read_anew_and_its_long_numbers_stay_exact():
    one = record(body={"seed": 2**80, "list": [1]})
    one.body["list"].append(2)
    assert one.body == {"seed": 2**80, "list": [1]}


def test_text_as_json():
    assert record(output_text='{"a": [1]}').json() == {"a": [1]}
    assert record(output_text='```json\n{"a": 1}\n```').json() == {"a": 1}
    with pytest.raises(ValueError, match=r"row-1: expected JSON, got 'Sure! .*see \.text"):
        record(output_text="Sure! Here it is").json()
    with pytest.raises(ValueError, match="got no text"):
        record().json()
    with pytest.raises(errors.RateLimitError):
        record(state=State.RATE_LIMITED, code="queue_full").json()


def test_images_of_every_endpoint_and_beside_the_output(tmp_path):
    picture, text = b"\x89PNG-1", base64.b64encode(b"\x89PNG-1").decode()
    assert record(
        body={"output": [{"type": "image_generation_call", "result": text}, {"type": "message"}]}
    ).images() == [picture]
    assert record(body={"data": [{"b64_json": text}, {"url": "https://x"}]}).images() == [picture]
    message = {"images": [{"image_url": {"url": f"data:image/png;base64,{text}"}}]}
    assert record(body={"choices": [{"message": message}]}).images() == [picture]
    for body in (
        None,
        [],
        "x",
        {"output": 5},
        {"output": [None]},
        {"data": [{"b64_json": 5}]},
        {"choices": [{"message": None}]},
    ):
        assert record(body=body).images() == []
    (tmp_path / "a.png").write_bytes(picture)
    line = json.loads(record().to_json()) | {
        "artifacts": [
            {"file": "a.png", "media_type": "image/png"},
            {"file": "b.bin", "media_type": "application/octet-stream"},
        ]
    }
    stored = Record(json.dumps(line).encode(), tmp_path)
    assert stored.images() == [picture]
    assert [one["file"] for one in stored.artifacts] == ["a.png", "b.bin"]


def test_raising_ours_and_theirs():
    assert record().raise_for_state().ok
    failed = record("row-9", State.RATE_LIMITED, "queue_full")
    with pytest.raises(batchrun.errors.RateLimitError) as caught:
        failed.raise_for_state()
    assert (caught.value.code, caught.value.retryable, caught.value.record) == ("queue_full", True, failed)
    with pytest.raises(openai.RateLimitError):
        failed.raise_for_state(as_openai=True)


@pytest.fixture
def some():
    return Records(
        [
            record("a", output_text="hello", usage=Usage(1, 2, 3)),
            record("b", State.REJECTED, "no_model", message=EVIL),
            record("c", State.TIMEOUT, "deadline_exceeded"),
            record("d", output_text=EVIL, warnings=("refusal",), usage=Usage(1, 2, 3)),
            record("e", State.UNCONFIRMED, "answer_lost"),
        ]
    )


def test_a_list_by_place_key_and_state(some):
    assert (some[0].key, some["c"].key, some[-1].key, len(some)) == ("a", "c", "e", 5)
    assert [one.key for one in some[1:3]] == ["b", "c"]
    assert [one.key for one in some.ok] == ["a", "d"]
    assert [one.key for one in some.failed] == ["b", "c", "e"]
    assert {state: len(part) for state, part in some.by_state.items()} == {
        "succeeded": 2, "rejected": 1, "timeout": 1, "unconfirmed": 1,
    }  # fmt: skip
    assert some.usage == Usage(2, 4, 6)
    assert some[True].key == "b"
    assert pickle.loads(pickle.dumps(some)) == some


@pytest.mark.parametrize(
    ("which", "error", "told"),
    [
        ("nobody\x1b", KeyError, r"none of the 5 records has the key nobody(?!\x1b)"),
        (5, IndexError, r"records\[5\]: there are 5 records, from 0"),
        (-6, IndexError, r"records\[-6\]: there are 5 records"),
        (None, TypeError, "expected an index, a key or a slice, got NoneType"),
        (1.0, TypeError, "expected an index, a key or a slice, got float"),
    ],
)
def test_what_is_no_record_of_theirs_is_told(some, which, error, told):
    with pytest.raises(error, match=told):
        some[which]
    with pytest.raises(IndexError, match="there are no records"):
        Records()[0]


def test_the_story_tells_what_happened_and_what_to_do(some):
    assert max(map(len, str(some).splitlines())) <= 80
    head, tokens, *rest = str(some).replace("\n    ", " ").splitlines()
    assert head == "5 records: 2 succeeded, 1 rejected, 1 timeout, 1 unconfirmed (1 succeeded with warnings)"
    assert tokens == "6 tokens: 2 in, 4 out"
    assert rest[0].startswith("1 × answer_lost (unconfirmed): ")
    assert "next: the same call with retry_failed=['timeout'] retries 1 row" in rest
    assert "next: the same call with resubmit_unconfirmed=True sends the unconfirmed rows again; may pay twice" in rest
    assert str(Records()) == "0 records"
    assert repr(Records()) == "<Records: 0 records>"
    assert repr(record("x", State.TIMEOUT, "deadline_exceeded", message=EVIL)).isprintable()


def test_every_public_object_has_a_repr_of_one_line(some, tmp_path):
    kept = Records([*some], path=tmp_path / "out.jsonl")
    objects = [some, some[0], kept, [kept], some.usage, some[0].error, batchrun.Limits(rpm=5), batchrun.State.FAILED,
               batchrun.open(out=False), batchrun.Interrupted(some, remaining=3, path=tmp_path)]  # fmt: skip
    for one in objects:
        assert "\n" not in repr(one), type(one)
        assert len(repr(one)) < 2_000
    assert repr(kept) == (
        f"<Records {tmp_path / 'out.jsonl'}: 5 records: 2 succeeded, 1 rejected, 1 timeout, 1 unconfirmed "
        "(1 succeeded with warnings)>"
    )


def test_at_a_prompt_of_ipython_records_tell_their_story_and_within_a_list_their_count(some):
    pretty = pytest.importorskip("IPython.lib.pretty")
    assert pretty.pretty(some) == str(some)
    assert pretty.pretty([some]) == f"[{some!r}]"


def test_a_stopped_cell_shows_no_traceback(some, tmp_path):
    shown = batchrun.Interrupted(some, remaining=3, running_jobs=2, path=tmp_path)._render_traceback_()
    assert shown[0].startswith("Interrupted: 5 rows done, 3 left; ")
    assert len(shown) <= 4
    assert max(map(len, shown)) <= 80


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.text = set(), ""

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)

    def handle_data(self, data):
        self.text += data


def test_h14_html_in_records_is_text_in_a_notebook(some):
    tags = Tags()
    tags.feed(some._repr_html_())
    assert tags.seen <= {"div", "b", "table", "thead", "tbody", "tr", "th", "td"}
    assert '<script>alert("x")</script>\\x1b[2J\\u202e' in tags.text


def test_h14_formula_prefixes_are_inert_in_csv(tmp_path):
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "fine", "a=1", ""]
    some = Records([record(f"{text}k", output_text=text, metadata=b'{"x":"=1"}') for text in texts])
    some.to_csv(tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for text, row in zip(texts, rows, strict=True):
        assert not row["output_text"].startswith(tuple("=+-@\t\r\n＝"))
        assert not row["custom_id"].startswith(tuple("=+-@\t\r\n＝"))
        assert row["output_text"].removeprefix("'") == text
    assert (tmp_path / "x.csv").stat().st_mode & 0o777 == 0o600


def test_csv_is_made_private_also_where_the_file_was_there(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("of an earlier export, which was longer" * 100)
    path.chmod(0o666)
    Records([record("a")]).to_csv(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().startswith("custom_id,")
    assert "earlier" not in path.read_text()


@pytest.mark.parametrize("read", [False, True], ids=["unread", "read"])
def test_csv_does_not_wait_for_a_fifo(tmp_path, read):
    path = tmp_path / "x.csv"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if read else None
    try:
        with pytest.raises(OSError, match="expected a regular file") as caught:
            Records([record("a")]).to_csv(path)
        assert caught.value.filename == str(path)
    finally:
        if reader is not None:
            os.close(reader)


def test_csv_follows_no_link(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "x.csv").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="expected a regular file"):
        Records([record("a")]).to_csv(tmp_path / "x.csv")
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_dataframe(some):
    pandas = pytest.importorskip("pandas")
    frame = Records([*some, record("007")]).to_pandas()
    assert list(frame["custom_id"])[-1] == "007"
    assert frame["state"].value_counts()["succeeded"] == 3
    assert frame["total_tokens"].sum() == 6
    assert frame["submitted_at"][0] == pandas.Timestamp("2027-01-15T08:00:00Z")
    assert frame["error_code"].isna().sum() == 3
    assert len(Records().to_pandas().columns) == len(frame.columns)


def test_a_table_of_arrow(some):
    pytest.importorskip("pyarrow")
    table = some.to_arrow()
    assert table.column("custom_id").to_pylist() == ["a", "b", "c", "d", "e"]
    assert str(table.schema.field("submitted_at").type) == "timestamp[ms, tz=UTC]"
    assert Records().to_arrow().schema == table.schema


def test_without_pandas_it_says_what_to_install(some, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        some.to_pandas()


def test_reading_an_output(tmp_path):
    lines = b"".join(record(key).to_json() + b"\n" for key in "ab")
    path = tmp_path / "out.jsonl"
    path.write_bytes(lines + b'{"custom_id": "torn')
    found = batchrun.read(path)
    assert ([one.key for one in found], found.path) == (["a", "b"], path)
    path.write_bytes(lines + b'{"prompt": "I am an input"}\n')
    with pytest.raises(errors.InputError, match=r"out\.jsonl:3: expected a record of batchrun, got"):
        batchrun.read(path)
    with pytest.raises(errors.InputError, match="there is no such file"):
        batchrun.read(tmp_path / "other.jsonl")
    for folder in (".", "", tmp_path):
        with pytest.raises(batchrun.errors.InputError, match="found a folder; give the file in it"):
            batchrun.read(folder)


def test_what_ends_a_run_survives_a_process_boundary(some):
    for error in (
        errors.Interrupted(some, remaining=3, running_jobs=2),
        errors.Halted("quota", "no money", "top up", some, remaining=3),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.records, again.remaining) == (type(error), str(error), some, 3)
