"""Profiles of a user's own: the sample is complete, every wrong key is named with the nearest right one."""

import copy
import tomllib
from pathlib import Path

import orjson
import pytest

from batchrun.core.responses.http import Answer
from batchrun.core.responses.outcome import Running
from batchrun.core.responses.verdict import CodeOverrides, JobReport
from batchrun.core.settings.settings import UsageError
from batchrun.core.taxonomy.rules import StateGroup
from batchrun.services.address import BaseUrl
from batchrun.services.choice import choose
from batchrun.services.custom import read_profile
from batchrun.services.field_map import ABSENT, WORD_OF_GROUP, FieldMap, JsonPath, meaning_of
from batchrun.services.idempotency import Idempotency, idempotency_key
from batchrun.services.profile import KNOWN, Auth, Call
from batchrun.services.service import Service
from tests.edge.hostile_server import answer
from tests.services.over_socket import KEY, polled, usage_error

SAMPLE = Path(__file__).parent.parent.parent / "samples" / "profile.toml"
MINIMAL = {"name": "mini", "base_url": "https://mini.example", "endpoints": {"submit": "/jobs", "poll": "/jobs/{id}"}}


def table(**changes):
    """The sample's table, with sections or keys (`auth__env`) changed; None takes one out."""
    changed = copy.deepcopy(tomllib.loads(SAMPLE.read_text()))
    for name, value in changes.items():
        section, _, key = name.partition("__")
        path = changed[section] if key else changed
        if value is None:
            del path[key or section]
        else:
            path[key or section] = value
    return changed


def test_the_sample_is_read_in_full():
    profile = read_profile(table(), "profile.toml")
    assert profile.name == "render-farm"
    assert [(one.path, one.background) for one in profile.endpoints] == [("/jobs", True), ("/previews", False)]
    assert (profile.poll, profile.cancel) == (Call("GET", "/jobs/"), Call("DELETE", "/jobs/"))
    assert (profile.auth, profile.key_names) == (Auth("x-render-key", ""), ("RENDER_API_KEY",))
    assert profile.overrides == CodeOverrides(frozenset({"oven_full", "http_507"}), frozenset({"http_404"}))
    assert profile.timeouts == {
        "submit_timeout": 60.0,
        "answer_timeout": 300.0,
        "poll_timeout": 30.0,
        "cancel_timeout": 15.0,
    }
    assert profile.field_map.words["oven_cold"] == "service_unavailable"
    assert profile.idempotency == Idempotency("idempotency-key", 86_400.0)
    assert not profile.repeats_ids
    assert read_profile(table(repeats_ids=True), "profile.toml").repeats_ids


def test_the_sample_shows_every_key_there_is():
    shown = tomllib.loads(SAMPLE.read_text())
    for section in ({}, "endpoints", "auth", "idempotency", "read", "vouches", "timeouts"):
        wrong = {**shown[section], "zzzzz": 1} if section else {**shown, "zzzzz": 1}
        complaint = usage_error(read_profile, {**shown, section: wrong} if section else wrong, "profile.toml")
        known = complaint.partition("known are ")[2].split(", ")
        assert set(known) == set(shown[section] if section else shown), section


def test_most_can_be_left_out():
    service = choose({}, service=read_profile(MINIMAL, "mini.toml"))
    request = service.submit("/jobs", b"{}")
    assert (service.origin, request.path) == ("https://mini.example", "/jobs")
    assert "authorization" not in request.headers
    assert not service.can_cancel
    assert service.profile.timeouts == {}
    body = {"id": "a", "status": "completed", "output": "hello"}
    assert (
        polled(
            answer(200, body),
            "a",
            service_of=lambda origin: choose({}, service=read_profile(MINIMAL, "m"), base_url=origin),
        ).outcome.text
        == "hello"
    )


def test_the_job_id_of_a_poll_may_be_in_a_query():
    endpoints = {"submit": "/jobs/createTask", "poll": "/jobs/recordInfo?taskId={id}"}
    service = choose({}, service=read_profile({**MINIMAL, "endpoints": endpoints}, "mini.toml"))
    assert service.poll("a1").path == "/jobs/recordInfo?taskId=a1"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nam": "x"}, ["unknown key 'nam' at the top", "did you mean 'name'?"]),
        ({"read__statuss": "x"}, ["unknown key 'statuss' in [read]", "did you mean 'status'?"]),
        ({"endpoints__cancle": "/x"}, ["did you mean 'cancel'?"]),
        ({"auth__key": KEY}, ["unknown key 'key' in [auth]", "known are env, header, prefix, required"]),
        ({"vouches__nothing": []}, ["did you mean 'nothing_created'?"]),
        ({"timeouts__pol": 1}, ["did you mean 'poll'?"]),
        ({"name": None}, ["name: expected text"]),
        ({"name": "My Farm"}, ["small letters"]),
        ({"base_url": "render.example"}, ["base_url: expected https://HOST"]),
        ({"repeats_ids": "yes"}, ["repeats_ids: expected true or false, got 'yes'"]),
        ({"idempotency__keep": "1h"}, ["unknown key 'keep' in [idempotency]", "did you mean 'keeps'?"]),
        ({"idempotency": "24h"}, ["idempotency: expected a table; write [idempotency]"]),
        ({"idempotency__header": None}, ["[idempotency]: header: expected text"]),
        ({"idempotency__header": "Idempotency Key"}, ["[idempotency] header: expected the name of a header"]),
        ({"idempotency__header": "Authorization"}, ["the header Authorization carries the API key"]),
        ({"idempotency__header": "Content-Length"}, ["is batchrun's own"]),
        ({"idempotency__header": "X-Tenant"}, ["X-Tenant is set in [headers] or [auth] too"]),
        ({"idempotency__header": "x-render-KEY"}, ["is set in [headers] or [auth] too; take it out of one of them"]),
        *[
            ({"idempotency__keeps": keeps}, ["[idempotency] keeps: expected for how long", f"got {keeps!r}"])
            for keeps in ("", "soon", 3600, True, "4m", "366d", "-1h")
        ],
        ({"idempotency__keeps": None}, ["keeps: expected for how long the service keeps a key", "got None"]),
        ({"endpoints": {}}, ["expected submit = '/path'"]),
        ({"endpoints": "/jobs"}, ["endpoints: expected a table; write [endpoints]"]),
        ({"endpoints__poll": None}, ["expected submit (or queues) and poll together"]),
        ({"endpoints__submit": "jobs"}, ["submit: expected a path such as /jobs, got 'jobs'"]),
        ({"endpoints__submit": "https://elsewhere.example/jobs"}, ["expected a path such as /jobs"]),
        ({"endpoints__submit": "/jobs/{id}"}, ["expected a path such as /jobs"]),
        ({"endpoints__submit": "//elsewhere.example/x"}, ["expected a path such as /jobs"]),
        ({"endpoints__submit": "/a/../b"}, ["expected a path such as /jobs"]),
        ({"endpoints__submit": "/a b\r\nhost: x"}, ["expected a path such as /jobs"]),
        ({"endpoints__poll": "/jobs/{ID}"}, ["with {id} once, such as /jobs/{id}"]),
        ({"endpoints__poll": "/jobs/{id}/{id}"}, ["with {id} once"]),
        ({"endpoints__poll": "/jobs"}, ["with {id} once"]),
        ({"endpoints__cancel": "PATCH /jobs/{id}"}, ["with {id} once"]),
        ({"endpoints__at_once": "/previews"}, ["expected a list of paths"]),
        ({"endpoints__queues": "/previews"}, ["queues: expected a list of paths"]),
        ({"endpoints__queues": ["/others"]}, ["queues: expected paths that at_once names too, got '/others'"]),
        ({"endpoints": {"at_once": ["/a"], "queues": ["/a"]}}, ["expected submit (or queues) and poll together"]),
        ({"endpoints": {"at_once": ["/a"], "poll": "/a/{id}"}}, ["expected submit (or queues) and poll together"]),
        ({"endpoints__ours": 1}, ["write [endpoints.ours]"]),
        ({"auth__env": KEY}, ["expected the name of an environment variable", "never a key itself"]),
        ({"auth__env": None}, ["expected env"]),
        ({"auth__header": "x y"}, ["the name of a header"]),
        ({"auth__header": "Cookie"}, ["batchrun's own"]),
        ({"auth__prefix": f"Bearer {KEY}"}, ["never the API key itself"]),
        ({"auth__required": "yes"}, ["expected true or false"]),
        ({"headers__Authorization": KEY}, ["carries the API key"]),
        ({"headers__X-Other": f"{KEY}\n"}, ["printable ASCII"]),
        ({"headers__X-Other": 7}, ["printable ASCII"]),
        ({"read__id": "job..id"}, ["[read] id: expected a path such as", "'job..id'"]),
        ({"read__id": "$.job"}, ["expected a path"]),
        ({"read__result": 7}, ["result: expected text"]),
        ({"words__baked": "sucess"}, ["[words] baked", "did you mean 'success'?"]),
        ({"words__baked": "unknown"}, ["expected a group or a known status word"]),
        ({"words__baked": 7}, ["expected a group or a known status word"]),
        ({"vouches__nothing_created": "full"}, ["expected a list"]),
        ({"vouches__nothing_created": ["http 500"]}, ["expected an error code such as"]),
        ({"timeouts__poll": 0}, ["expected 1 to 3600 seconds, got 0"]),
        ({"timeouts__poll": True}, ["expected 1 to 3600 seconds"]),
    ],
)  # fmt: skip
def test_what_cannot_work_is_named_with_a_remedy(changes, words):
    complaint = usage_error(read_profile, table(**changes), "profile.toml")
    assert complaint.startswith("profile.toml: ")
    for word in words:
        assert word in complaint
    assert KEY not in complaint


def test_the_key_of_a_profile_comes_from_its_own_variable_alone():
    profile = read_profile(table(), "profile.toml")
    complaint = usage_error(choose, {"OPENAI_API_KEY": KEY}, service=profile)
    assert "RENDER_API_KEY is not set" in complaint
    service = choose({"OPENAI_API_KEY": KEY, "OPENAI_ORG_ID": "o", "RENDER_API_KEY": "mine"}, service=profile)
    head = service.poll("a").headers
    assert (head["x-render-key"], KEY in head.values(), "openai-organization" in head) == ("mine", False, False)


def test_every_group_but_unknown_has_a_word_that_belongs_to_it():
    assert set(WORD_OF_GROUP) == {group.value for group in StateGroup} - {"unknown"}
    for group, word in WORD_OF_GROUP.items():
        assert meaning_of(group) == meaning_of(word) == word


@pytest.mark.parametrize("group", sorted(WORD_OF_GROUP.keys() - {"in progress", "cancelling"}))
def test_a_word_of_a_profile_ends_a_job_as_its_group_says(group):
    changed = table(words={"zapped": group})
    service_of = lambda origin: choose({}, service=read_profile(changed, "p.toml"), base_url=origin)  # noqa: E731 - used once
    verdict = polled(answer(200, {"job": {"id": "a", "state": "Zapped"}}), "a", service_of=service_of)
    assert isinstance(verdict, JobReport)
    assert verdict.outcome.status == "Zapped"
    assert verdict.outcome.state


@pytest.mark.parametrize("result", [None, "files"])
@pytest.mark.parametrize(
    ("body", "job_id"),
    [({"id": "a", "status": "queued"}, "a"), ({"id": "a"}, "a"), ({"id": "a/b", "status": "queued"}, None)],
)
def test_s36_a_job_is_polled_where_a_path_that_answers_at_once_keeps_it(body, job_id, result):
    endpoints = {"at_once": ["/pictures", "/texts"], "queues": ["/pictures"], "poll": "/tasks?id={id}"}
    read = {} if result is None else {"result": result}
    service = choose({}, service=read_profile({**MINIMAL, "endpoints": endpoints, "read": read}, "mini.toml"))
    response = Answer(200, {}, orjson.dumps(body))
    queued = service.read_submit(response, 0.0, "/pictures")
    if job_id is None:
        assert (queued.problem.code, queued.shape) == ("unusable_job_id", None)
    else:
        assert (queued.job_id, isinstance(queued.outcome, Running)) == (job_id, True)
        assert service.poll(job_id).path == "/tasks?id=a"
    elsewhere = service.read_submit(response, 0.0, "/texts")
    if result is None and "status" not in body:
        assert elsewhere.outcome.state == "succeeded", "any object without an error and a status"
    else:
        assert elsewhere.problem.code == "unusable_job_id"


def test_s36_a_result_at_once_needs_no_poll_where_jobs_may_be_queued():
    endpoints = {"at_once": ["/pictures"], "queues": ["/pictures"], "poll": "/tasks/{id}"}
    service = choose(
        {}, service=read_profile({**MINIMAL, "endpoints": endpoints, "read": {"result": "files"}}, "m.toml")
    )
    verdict = service.read_submit(Answer(200, {}, b'{"id": "a", "files": ["x"]}'), 0.0, "/pictures")
    assert (verdict.outcome.state, verdict.retrievable) == ("succeeded", False)


@pytest.mark.parametrize(
    ("text", "body", "found"),
    [
        ("status", {"status": 1}, 1),
        ("a.b-c._d", {"a": {"b-c": {"_d": None}}}, None),
        ("a[1].b", {"a": [0, {"b": 2}]}, 2),
        ("[0][1]", [[0, 3]], 3),
        ("0", {"0": 4}, 4),
        ("a.b", {"a": []}, ABSENT),
        ("a[0]", {"a": {"0": 1}}, ABSENT),
        ("a[3]", {"a": [1]}, ABSENT),
        ("a", None, ABSENT),
        ("a.b", {"a": "b"}, ABSENT),
    ],
)
def test_a_place(text, body, found):
    assert JsonPath(text, "x").find(body) is found


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a[]", "a[-1]", "a[x]", "a b", "a]", "*", "a\n", "a[0]b", "ä"])
def test_an_invalid_path(text):
    assert "expected a path" in usage_error(JsonPath, text, "x")


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ({"r": ["a"]}, {"data": ["a"]}),
        ({"r": [{"type": "message"}]}, {"output": [{"type": "message"}]}),
        ({"r": "text"}, {"output": "text"}),
        ({"r": {"url": "x"}}, {"output": {"url": "x"}}),
        ({"e": "bad", "c": 5}, {"error": {"message": "bad", "code": 5}}),
        ({"e": {"message": "bad"}, "c": "x"}, {"error": {"message": "bad", "code": "x"}}),
        ({"e": {"message": "bad"}}, {"error": {"message": "bad"}}),
        ({"e": None, "c": "x"}, {}),
    ],
)
def test_a_field_map_moves_what_core_reads(body, seen):
    paths = {name: JsonPath(name[0], "x") for name in ("id", "status", "error", "usage", "model", "result")}
    field_map = FieldMap(**paths, error_code=JsonPath("c", "x"))
    assert field_map(body) == (seen, None)


def with_key_at_each_place(value):
    """`value` with the key in place of one text at a time."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from ({**value, name: changed} for changed in with_key_at_each_place(inner))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from ([*value[:at], changed, *value[at + 1 :]] for changed in with_key_at_each_place(inner))
    else:
        yield KEY


def test_a_key_anywhere_in_a_profile_is_not_shown_by_its_refusal():
    refused = 0
    for changed in with_key_at_each_place(tomllib.loads(SAMPLE.read_text())):
        try:
            choose({"RENDER_API_KEY": "another-key-0123456789"}, service=read_profile(changed, "profile.toml"))
        except UsageError as error:
            refused += 1
            assert KEY not in f"{error}{error!r}"
    assert refused >= 20


# --- idempotency keys ---


def test_a_post_carries_its_key_in_the_header_of_the_profile_and_a_poll_does_not():
    service = choose({"RENDER_API_KEY": KEY}, service=read_profile(table(), "p"))
    key = idempotency_key("run", "row-1", 1, "hash")
    assert service.submit("/jobs", b"{}", key).headers["idempotency-key"] == key
    assert "idempotency-key" not in service.submit("/jobs", b"{}").headers
    assert "idempotency-key" not in service.poll("a").headers
    plain = choose({"RENDER_API_KEY": KEY}, service=read_profile(table(idempotency=None), "p"))
    assert plain.submit("/jobs", b"{}", key).headers == plain.submit("/jobs", b"{}").headers


def test_a_key_is_that_of_one_post_and_always_the_same():
    known = idempotency_key("run", "row-1", 1, "hash")
    assert known == "50ed1b99832b0b96b7f166b2c806348461f4a8066d63e5a8b5cecf64001c23a8"
    others = [("run2", "row-1", 1, "hash"), ("run", "row-2", 1, "hash"), ("run", "row-1", 2, "hash"), ("run", "row-1", 1, "hash2")]  # fmt: skip
    assert len({known, *(idempotency_key(*one) for one in others)}) == 5


def test_a_header_that_the_user_sets_is_not_taken():
    profile = read_profile(table(), "p")
    text = usage_error(Service, profile, BaseUrl("https://render.example"), None, {"idempotency-key": "mine"})
    assert "the header idempotency-key carries the idempotency key of render-farm" in text
    auth = usage_error(Service, profile, BaseUrl("https://render.example"), None, auth=Auth("idempotency-key", ""))
    assert "leave it out of the other headers" in auth


def test_no_service_that_is_known_by_name_honours_keys():
    assert [profile.name for profile in KNOWN.values() if profile.idempotency is not None] == []
