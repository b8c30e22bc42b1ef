import json
import re

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchrun.core.rows.parse import (
    _FOREIGN,
    ENDPOINTS,
    Admitted,
    BodyFlags,
    Endpoint,
    Rejection,
    RowParser,
    canonical,
    content_key,
    metadata,
    overridden,
    plain_path,
)
from batchrun.core.settings.settings import UsageError
from batchrun.core.taxonomy.classify import rule
from batchrun.core.taxonomy.rules import WordField
from batchrun.core.text.json_text import duplicate_keys, edited, members, values
from batchrun.core.text.readable import worded
from tests.cost import costs_at_most

pytestmark = pytest.mark.timeout(300)  # properties of hundreds of examples
INTAKE = RowParser(BodyFlags(model="gpt-5"))
BARE = RowParser()
BODY = '"body": {"model": "gpt-5", "input": "x"}'


def admitted(line, intake=INTAKE):
    found = intake.admit(line if isinstance(line, bytes) else line.encode())
    assert isinstance(found, Admitted), found
    return found


def rejected(line, intake=INTAKE):
    found = intake.admit(line if isinstance(line, bytes) else line.encode())
    assert isinstance(found, Rejection), found
    assert rule(WordField.TOOL, found.code).word == found.code
    return found


def sent(line, flags=BodyFlags(model="gpt-5"), endpoints=ENDPOINTS):
    line = line if isinstance(line, bytes) else line.encode()
    intake = RowParser(flags, endpoints)
    return intake.prepare(admitted(line, intake), line)


OURS = b'"background":true,"store":true,'


@pytest.mark.parametrize(
    ("line", "path", "body"),
    [
        ('{"custom_id":"a","url":"/v1/responses","body": {"model": "m", "input" :"x"} }', "/responses", b"{" + OURS + b'"model": "m", "input" :"x"}'),
        ('{"body":{"input":"x"}}', "/responses", b'{"model":"gpt-5",' + OURS + b'"input":"x"}'),
        (' {"model":"m",  "input":"x"}\r', "/responses", b"{" + OURS + b'"model":"m",  "input":"x"}'),
        ('{"custom_id":"a", "model":"m",  "input" : "x" , "method":"POST"}', "/responses", b"{" + OURS + b'"model":"m","input" : "x"}'),
        ('{"prompt":"caf\\u00e9"}', "/responses", b'{"model":"gpt-5","background":true,"store":true,"input":"caf\\u00e9"}'),
        ('{"prompt":"p","input":null,"metadata":{"a":1},"top_p":1.0}', "/responses", b'{"model":"gpt-5",' + OURS + b'"input":"p","top_p":1.0}'),
        ('{"prompt":{"id":"pmpt_1"},"model":"m"}', "/responses", b"{" + OURS + b'"prompt":{"id":"pmpt_1"},"model":"m"}'),
        ('{"model":"m","messages":[]}', "/chat/completions", b'{"model":"m","messages":[]}'),
        ('{"body":{"model":"m","messages":[]}}', "/chat/completions", b'{"model":"m","messages":[]}'),
        ('{"url":"/v1/images/generations","prompt":"a cat","model":"m"}', "/images/generations", b'{"prompt":"a cat","model":"m"}'),
        ('{"url":"/embeddings","body":{"model":"m","input":["x"]}}', "/embeddings", b'{"model":"m","input":["x"]}'),
    ],
)  # fmt: skip
def test_each_form_becomes_a_request(line, path, body):
    prepared = sent(line)
    assert (prepared.path, prepared.body, prepared.warnings) == (path, body, ())


@pytest.mark.parametrize("prefix", ["", "/v1", "/openai/v1"])
def test_one_path_has_three_spellings(prefix):
    for endpoint in ENDPOINTS:
        line = json.dumps({"url": prefix + endpoint.path, "body": {"model": "m"}})
        assert admitted(line).endpoint is endpoint


def test_paths_are_the_services_own():
    videos = Endpoint("/api/v1/videos", background=True)
    assert sent('{"url":"/api/v1/videos","body":{"model":"m"}}', endpoints=[videos]).path == "/api/v1/videos"
    azure = Endpoint("/openai/v1/responses", background=True)
    assert sent('{"url":"/v1/responses","prompt":"x"}', endpoints=[azure]).body.endswith(b'"input":"x"}')
    assert plain_path("responses") == "responses"


CASES = [
    ("i08", '{"body": {"model": "m", "input": "\\ud800"}}', "invalid_unicode", "\\ud800"),
    ("i08", '{"body": {"model": "m", "\\udc00": 1}}', "invalid_unicode", "\\udc00"),
    ("i07", b'{"prompt": "caf\xe9"}', "invalid_utf8", "byte 16 is 0xe9"),
    ("i07", b'{"prompt": "\xed\xa0\x80"}', "invalid_utf8", "0xed"),
    ("i10", '{"body": {"model": "m", "temperature": NaN}}', "invalid_json", "NaN is not JSON"),
    ("i10", '{"body": {"model": "m", "temperature": -Infinity}}', "invalid_json", "-Infinity is not JSON"),
    ("i10", '{"body": {"model": "m", "temperature": 1e999}}', "invalid_json", "1e999 does not fit a double"),
    ("i13", '{"custom_id": 1.0, "prompt": "x"}', "invalid_custom_id", 'got a number: write "1"'),
    ("i13", '{"custom_id": 1.5, "prompt": "x"}', "invalid_custom_id", "must be a string or an integer, got a number"),
    ("i13", '{"custom_id": 18446744073709551616, "prompt": "x"}', "invalid_custom_id", "got a number"),
    ("i13", '{"custom_id": true, "prompt": "x"}', "invalid_custom_id", "got a boolean"),
    ("i13", '{"custom_id": [1], "prompt": "x"}', "invalid_custom_id", "got a list"),
    ("i13", '{"custom_id": "", "prompt": "x"}', "invalid_custom_id", "empty"),
    ("i16", '{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}", "invalid_json", "deeper than 1,024"),
    ("i16", "[" * 100_000, "invalid_json", "deeper than 1,024"),
    ("i16", '{"a":' * 100_000, "invalid_json", "deeper than 1,024"),
    ("i18", "[]", "not_an_object", "a list"),
    ("i18", '"text"', "not_an_object", "a string"),
    ("i18", "1", "not_an_object", "a number"),
    ("i18", "null", "not_an_object", "null"),
    ("i18", "true", "not_an_object", "a boolean"),
    ("i19", '{"prompt": "x"} {"prompt": "y"}', "invalid_json", "expected the end of the line at column 17"),
    ("i19", '{"prompt": "x"},', "invalid_json", "got ','"),
    ("i21", "{}", "no_body", "an empty object"),
    ("i21", '{"custom_id": "a", "url": "/v1/responses"}', "no_body", "got custom_id, url"),
    ("i21", '{"model": "m", "input": null}', "no_body", "got model, input"),
    ("i21", '{"body": "text"}', "no_body", "got a string"),
    ("i21", '{"body": null}', "no_body", "got null"),
    ("i21", '{"body": {}}', "no_body", "got an empty object"),
    ("i23", '{"url": "/v1/audio/speech", ' + BODY + "}", "unknown_url", "expected one of /responses"),
    ("i23", '{"url": "https://evil.example/v1/responses", ' + BODY + "}", "unknown_url", "--base-url"),
    ("i23", '{"url": "//evil.example/v1/responses", ' + BODY + "}", "unknown_url", "expected one of"),
    ("i23", '{"url": "/v1/responses?x=1", ' + BODY + "}", "unknown_url", "expected one of"),
    ("i23", '{"url": "/v1/../responses", ' + BODY + "}", "unknown_url", "expected one of"),
    ("i23", '{"url": ["/v1/responses"], ' + BODY + "}", "unknown_url", "got a list"),
    ("i24", '{"method": "GET", ' + BODY + "}", "invalid_method", "got 'GET'"),
    ("i24", '{"method": ["POST"], ' + BODY + "}", "invalid_method", "got a list"),
    ("i25", '{"headers": {"x": "y"}, ' + BODY + "}", "unknown_field", "'headers'"),
    ("i25", '{"api_key": "sk-1", ' + BODY + "}", "unknown_field", "'api_key'"),
    ("i25", '{"model": "m", "input": "x", "api_key": "sk-1"}', "unknown_field", "may not set 'api_key'"),
    ("i25", '{"body": {"model": "m", "extra_headers": {}}}', "unknown_field", "may not set 'extra_headers'"),
    ("i25", '{"metadata": "text", ' + BODY + "}", "unknown_field", "metadata must be an object"),
    ("i27", '{"custom_id": "' + "x" * 1_000_000 + '", "prompt": "x"}', "invalid_custom_id", "got 1,000,000"),
    ("i27", '{"custom_id": "' + "é" * 513 + '", "prompt": "x"}', "invalid_custom_id", "got 1,026"),
]  # fmt: skip


@pytest.mark.parametrize(("id_", "line", "code", "says"), CASES, ids=[f"{c[0]}-{n}" for n, c in enumerate(CASES)])
def test_a_bad_row_is_rejected(id_, line, code, says):
    found = rejected(line)
    assert found.code == code
    assert says in worded(found.message)
    assert len(worded(found.message)) < 300
    assert "\n" not in worded(found.message)


def test_i17_a_5000_digit_integer_travels_unchanged():
    digits = "7" * 5000
    assert sent(f'{{"custom_id":"a","body":{{"model":"m","seed":{digits}}}}}').body.endswith(
        f'"seed":{digits}}}'.encode()
    )
    assert sent(f'{{"prompt":"x","seed":-{digits}}}').body.endswith(f'"seed":-{digits}}}'.encode())


@pytest.mark.parametrize(
    "number", ["12345678901234567890123", "-0", "1.0", "1E2", "0.1000000000000000055511151231257827"]
)
def test_i17_numbers_keep_their_digits(number):
    assert sent(f'{{"prompt":"x","n":{number}}}').body.endswith(f'"n":{number}}}'.encode())


def test_i09_control_characters_in_an_id_are_accepted():
    assert admitted('{"custom_id": "a\\u0000\\u001b[2J", "prompt": "x"}').custom_id == "a\0\x1b[2J"


def test_i27_an_id_of_1024_bytes_is_accepted():
    assert admitted('{"custom_id": "' + "é" * 512 + '", "prompt": "x"}').custom_id == "é" * 512


def test_i14_ids_equal_but_for_their_normal_form_differ():
    one, two = (admitted(f'{{"custom_id": "{form}", "prompt": "x"}}').custom_id for form in ("\u00e9", "e\u0301"))
    assert one != two


@pytest.mark.parametrize("char", ["\u2028", "\u0085", "\u2029"])
def test_i20_line_separators_within_strings(char):
    assert sent(f'{{"prompt": "a{char}b"}}').body.endswith(f'"input":"a{char}b"}}'.encode())


def test_i11_the_last_of_doubled_keys_wins_and_they_are_found():
    line = b'{"custom_id":"a","body":{"model":"m"},"custom_id":"b","body":{"model":"n", "n":1}}'
    assert admitted(line).custom_id == "b"
    assert sent(line).body == b"{" + OURS + b'"model":"n", "n":1}'
    assert duplicate_keys(line) == ["body", "custom_id"]
    assert duplicate_keys(b'{"a":[{"b":1,"b":2}],"c":{"a":1}}') == ["b"]


@pytest.mark.parametrize(
    ("line", "model"),
    [
        ('{"prompt": "x"}', None),
        ('{"body": {"input": "x", "model": null}}', None),
        ('{"body": {"input": "x", "model": ""}}', None),
        ('{"body": {"input": "x", "model": 5}}', "a number"),
    ],
)
def test_i22_no_model(line, model):
    found = rejected(line, BARE)
    assert found.code == "no_model"
    assert "--model" in worded(found.message)
    if model is None:
        assert orjson.loads(sent(line).body)["model"] == "gpt-5"
    else:
        assert model in worded(found.message)


@pytest.mark.parametrize(
    ("line", "fields", "warnings"),
    [
        ('{"body":{"model":"m","background":false}}', {"background": True, "store": True}, ["background_overridden"]),
        ('{"body":{"model":"m","background":true}}', {"background": True, "store": True}, []),
        ('{"body":{"model":"m","background":null,"store":null}}', {"background": True, "store": True}, []),
        ('{"body":{"model":"m","store":false}}', {"background": True, "store": False}, []),
        (
            '{"body":{"model":"m","stream":true,"stream_options":{"a":1}}}',
            {"background": True, "store": True},
            ["stream_overridden"],
        ),
        ('{"body":{"model":"m","stream":false}}', {"background": True, "store": True, "stream": False}, []),
        ('{"model":"m","messages":[],"stream":true}', {"messages": []}, ["stream_overridden"]),
        ('{"model":"m","messages":[],"background":true}', {"messages": []}, ["background_overridden"]),
        (
            '{"url":"/images/generations","model":"m","prompt":"x","background":"opaque"}',
            {"prompt": "x", "background": "opaque"},
            [],
        ),
        (
            '{"body":{"stream":true,"model":"m","background":1,"background":0}}',
            {"background": True, "store": True},
            ["background_overridden", "stream_overridden"],
        ),
    ],
)
def test_i26_background_and_stream_are_ours_and_store_is_the_users(line, fields, warnings):
    prepared = sent(line)
    assert orjson.loads(prepared.body) == {"model": "m"} | fields
    assert list(prepared.warnings) == warnings
    assert prepared.body.count(b'"background"') <= 1
    found = admitted(line)
    assert overridden(found.endpoint, found.body) == prepared.warnings


def test_responses_may_end_at_the_submit():
    prepared = sent('{"body":{"model":"m","background":true}}', endpoints=[Endpoint("/responses")])
    assert (prepared.body, prepared.warnings) == (b'{"model":"m"}', ("background_overridden",))


@pytest.mark.parametrize(
    ("body", "settings", "cap"),
    [
        ({}, [], 0),
        ({"max_output_tokens": 60}, [], 60),
        ({"max_completion_tokens": 60, "max_tokens": 70}, [], 60),
        ({"max_tokens": 70, "max_output_tokens": None}, [], 70),
        ({"max_tokens": "70"}, [], 0),
        ({"max_tokens": True}, [], 0),
        ({"max_tokens": 7.0}, [], 0),
        ({"max_tokens": -1}, [], 0),
        ({}, ["max_output_tokens=50"], 50),
        ({"max_output_tokens": 60}, ["max_output_tokens=50"], 50),
        ({"max_output_tokens": 60}, ["max_output_tokens=null"], 0),
        ({"max_output_tokens": 60}, ["temperature=0"], 60),
    ],
)
def test_the_token_cap_is_the_one_that_is_sent(body, settings, cap):
    assert RowParser(BodyFlags.read("gpt-5", settings)).token_cap({"input": "x", **body}) == cap


def test_settings_enter_every_body_and_the_model_only_where_none_is():
    flags = BodyFlags.read("gpt-5", ["temperature=0.20", "store=false", 'reasoning={"effort": "low"}', "user=me"])
    body = sent('{"body":{"model":"m", "temperature" : 1, "n":1.0}}', flags).body
    assert body == (
        b'{"store":false,"reasoning":{"effort": "low"},"user":"me","background":true,'
        b'"model":"m","temperature" : 0.20,"n":1.0}'
    )
    assert flags.to_dict()["set"]["temperature"] == "0.20"
    set_model = BodyFlags.read(None, ["model=gpt-6"])
    assert admitted('{"body":{"model":"m"}}', RowParser(set_model)).model == "gpt-6"
    assert b'"model":"gpt-6"' in sent('{"body":{"model":"m"}}', set_model).body
    assert admitted('{"prompt":"x"}', RowParser(set_model)).model == "gpt-6"


@pytest.mark.parametrize(
    ("model", "setting", "says"),
    [
        ("", "a=1", "give a model"),
        (None, "temperature", "write --set temperature=0.2"),
        (None, "=1", "write --set temperature=0.2"),
        (None, "background=true", "batchrun itself decides"),
        (None, "stream=true", "batchrun itself decides"),
        (None, "model=5", "--set model=NAME"),
        (None, "reasoning.effort=low", "--set 'reasoning={\"effort\": …}'"),
    ],
)
def test_a_wrong_flag_teaches(model, setting, says):
    with pytest.raises(UsageError, match=re.escape(says)):
        BodyFlags.read(model, [setting])


def test_metadata_is_ours_next_to_the_body_and_the_services_within():
    def of(line):
        return metadata(admitted(line), line)

    assert of(b'{"body":{"model":"m","metadata":{"a":1}},"metadata" : {"big": 1.00}}') == b'{"big": 1.00}'
    assert of(b'{"model":"m","input":"x","metadata":{"a":1}}') is None
    assert of(b'{"prompt":"x","metadata":{"a":1},"metadata":{"b":2}}') == b'{"b":2}'
    assert of(b'{"prompt":"x","metadata":null}') is None


def test_a_cut_off_line_full_of_escaped_quotes_takes_no_time():
    line = '{"prompt": "' + '\\"' * 40_000
    assert rejected(line).code == "invalid_json"
    assert costs_at_most(10, lambda: rejected(line))


def test_rows_beyond_what_orjson_writes_have_keys():
    deep = '{"prompt": "x", "a": ' + "[" * 1000 + "]" * 1000 + "}"
    spaced = '{"a": ' + "[ " * 1000 + "]" * 1000 + ', "prompt": "x"}'
    one, two = (canonical(admitted(line).value) for line in (deep, spaced))
    assert one == two
    assert sent(deep).body.endswith(b"]" * 1000 + b"}")


# Properties

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(codec="utf-8"), max_size=10)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=10,
)
TOUCHED = {"model", "background", "stream", "stream_options", "store", "messages", *_FOREIGN}
BODIES = st.dictionaries(TEXT.filter(lambda name: name not in TOUCHED), JSON)


def spaced(value):
    return json.dumps(value, indent=1, ensure_ascii=False).replace("\n", " ")


@settings(deadline=None)
@given(BODIES, st.booleans(), st.booleans())
@example(body={"a": 10**30, "b": '"body": {"', "c\\": "\\"}, ascii_only=True, wide=False)
def test_any_body_is_sent_unaltered(body, ascii_only, wide):
    body = {"model": "m", **body}
    text = spaced(body) if wide else json.dumps(body, ensure_ascii=ascii_only)
    line = f'{{"metadata": {{"body": 1}}, "body" : {text} , "custom_id": "body"}}'.encode()
    assert sent(line).body == text.replace("{", "{" + OURS.decode(), 1).encode()


@settings(deadline=None)
@given(BODIES)
def test_a_bare_body_and_a_batch_row_send_the_same(body):
    body = {"input": "x", **{name: value for name, value in body.items() if name not in ("url", "method", "body")}}
    body.pop("custom_id", None)
    text = json.dumps(body)
    bare, batch = sent(text), sent(f'{{"body": {text}}}')
    assert bare == batch
    beside = sent(json.dumps({"custom_id": "a", "method": "POST"} | body))
    assert orjson.loads(beside.body) == orjson.loads(bare.body)


@settings(deadline=None)
@given(BODIES, st.dictionaries(TEXT, JSON, max_size=3), st.sets(TEXT, max_size=3))
def test_edits_do_what_dictionaries_do(body, put, drop):
    names = list(body)
    put |= dict.fromkeys(names[:1], 5)
    drop = (drop | set(names[1:2])) - put.keys()
    text = spaced(body).encode()
    made = edited(text, {name: json.dumps(value).encode() for name, value in put.items()}, drop, body.keys())
    assert json.loads(made) == {name: value for name, value in {**body, **put}.items() if name not in drop}


@settings(deadline=None)
@given(st.dictionaries(TEXT, JSON, min_size=1))
def test_members_are_found(value):
    text = spaced(value).encode()
    assert [one.key for one in members(text)] == list(value)
    assert {name: json.loads(raw) for name, raw in values(text, *value).items()} == value


@settings(deadline=None)
@given(BODIES, st.randoms(use_true_random=False))
def test_a_key_depends_on_the_content_of_a_row_not_on_how_it_is_written(body, random):
    names = list(body)
    random.shuffle(names)
    one = canonical(orjson.loads(orjson.dumps(body))) if _fits(body) else None
    if one is not None:
        two = canonical(orjson.loads(spaced({name: body[name] for name in names})))
        assert content_key(one) == content_key(two)


def _fits(value):
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return False
    return True


@settings(deadline=None)
@given(
    st.binary(max_size=200) | st.builds(lambda value, cut: json.dumps(value).encode()[:cut], JSON, st.integers(1, 50))
)
@example(b"")
@example(b"\xff\xfe")
@example(b'{"prompt": "\\')
def test_no_bytes_raise(line):
    found = INTAKE.admit(line)
    if isinstance(found, Admitted):
        assert json.loads(INTAKE.prepare(found, line).body)
        metadata(found, line)
    else:
        assert rule(WordField.TOOL, found.code).word == found.code
        duplicate = found.message
        assert duplicate


FIELDS = st.sampled_from(
    ["custom_id", "method", "url", "body", "metadata", "model", "input", "prompt", "messages", "background", "stream", "store"]
)  # fmt: skip
VALUES = st.sampled_from(
    ["a", "POST", "/v1/responses", "/chat/completions", "", None, True, False, 1, {}, [], {"a": 1}]
)


@settings(deadline=None)
@given(st.dictionaries(FIELDS, VALUES | st.dictionaries(FIELDS, VALUES)))
def test_rows_of_known_fields_never_raise_and_send_what_a_service_can_read(row):
    line = json.dumps(row).encode()
    found = INTAKE.admit(line)
    if isinstance(found, Admitted):
        body = orjson.loads(INTAKE.prepare(found, line).body)
        assert isinstance(body["model"], str)
        assert body.get("stream") in (None, False)
        assert not {"custom_id", "method", "url"} & body.keys() or "body" in row
        assert not found.endpoint.background or body["background"] is True
