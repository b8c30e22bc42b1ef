"""The profile that would read a response of no known shape: the loader takes it as it is, and it reads that response."""

import tomllib
from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.core.responses.http import Answer
from batchrun.core.responses.outcome import Ended, Running
from batchrun.core.responses.shape import unknown_shape
from batchrun.core.responses.verdict import Accepted, Ambiguous, is_safe_id
from batchrun.core.settings.settings import Secret
from batchrun.services.choice import choose
from batchrun.services.custom import read_profile
from batchrun.services.draft import draft_profile
from batchrun.services.profile import Call
from tests.core.responses.test_shape import JSON
from tests.services.over_socket import KEY
from tests.services.test_custom import table

BASE = "https://api.example/v1"
IMAGES = "/images/generations"
NOTHING = {"code": 401, "msg": "no key", "data": None}


def compatible(environment=None, **more):
    return choose({"OPENAI_API_KEY": KEY, **(environment or {})}, service="compatible", base_url=BASE, **more)


def answer(body):
    return Answer(200, {}, orjson.dumps(body))


def drafted(body, service=None, path="/responses"):
    """The text for `body`, and the service as the loader reads it with the environment that there was."""
    service = service or compatible()
    background = next(one.background for one in service.profile.endpoints if one.path == path)
    text = draft_profile(
        service, replace(unknown_shape(body, b"{}", background=background, is_safe_id=is_safe_id), path=path)
    )
    assert text.isascii()
    assert all(line.isprintable() and len(line) <= 110 for line in text.splitlines())
    assert KEY not in text
    profile = read_profile(tomllib.loads(text), "profile.toml")
    environment = dict.fromkeys(profile.key_names, KEY)
    return text, choose(environment, service=profile)


@pytest.mark.parametrize(
    ("body", "job_id"),
    [
        ({"code": 200, "data": {"taskId": "t1"}}, "t1"),
        ({"code": 200, "msg": "success", "result": {"job_id": "j1"}}, "j1"),
        ({"status": "IN_QUEUE", "request_id": "r1"}, "r1"),
        ({"status": "ok", "jobs": [{"id": "x1", "state": "parked \x1b[2J\u202e😀\ud800".encode("utf-8", "replace").decode()}]}, "x1"),
        ({"a": {"b": {"job": "y1"}}}, "y1"),
    ],
    ids=str,
)  # fmt: skip
def test_s27_the_profile_reads_the_response(body, job_id):
    text, service = drafted(body)
    verdict = service.read_submit(answer(body), 0.0, "/responses")
    assert isinstance(verdict, Accepted), text
    assert isinstance(verdict.outcome, Running)
    assert verdict.job_id == job_id
    assert service.poll(job_id).path == f"/v1/responses/{job_id}"


def test_the_batch_can_be_resumed_with_it():
    """Name, address and account decide whether a journal is this batch's; the request is the same too."""
    before = compatible(
        {"OPENAI_ORG_ID": "org-1", "OPENAI_CUSTOM_HEADERS": "X-Tenant: seven\nX-Auth-Token: hidden secret"}
    )
    text, service = drafted({"result": {"job_id": "j"}}, before)
    assert service.identity() == before.identity()
    assert service.submit("/responses", b"").path == before.submit("/responses", b"").path
    ours, old = service.submit("/responses", b"").headers, before.submit("/responses", b"").headers
    assert {**ours, "x-auth-token": "hidden secret"} == dict(old)
    assert "hidden secret" not in text
    assert "# x-auth-token" in text
    assert [one.ours for one in service.profile.endpoints] == [{"background": True}]


def test_an_azure_service_keeps_its_path_and_the_header_of_its_key():
    for name, value in (("AZURE_OPENAI_API_KEY", KEY), ("AZURE_OPENAI_AD_TOKEN", f"Bearer-{KEY}")):
        before = choose({name: value, "AZURE_OPENAI_ENDPOINT": "https://x.example"})
        _, service = drafted({"result": {"job_id": "j"}}, before)
        assert service.identity() == before.identity()
        assert service.auth == before.auth
        assert service.profile.key_names == (name,)


def test_an_api_key_from_a_file_keeps_its_flag():
    before = choose({}, service="compatible", base_url=BASE, key=Secret(KEY, "the file"))
    assert drafted({"job": "j"}, before)[1].profile.key_names == ("OPENAI_API_KEY",)


def test_a_profile_of_the_users_own_is_kept_but_for_the_id():
    """Every key of the sample; what the user says of the service outranks what a response seems to say."""
    changed = table(
        read__id="wrong.id", headers={"X-Tenant": "team-7"}, endpoints__default={"a": [1, 2.5, {"b": 'x"\\\n'}]}
    )
    own = read_profile(changed, "p.toml")
    before = choose({"RENDER_API_KEY": KEY}, service=own)
    body = {"job": {"ident": 1, "job_id": "j1", "state": "weird", "href": "https://render.example/api/v2/x/j1"}}
    _, service = drafted(body, before, "/jobs")
    after = service.profile
    assert after.field_map.id.text == "job.job_id"
    for name in ("status", "result", "error", "error_code", "usage", "model"):
        assert getattr(after.field_map, name).text == getattr(own.field_map, name).text
    assert after.field_map.words == own.field_map.words
    for name in (
        "name",
        "endpoints",
        "poll",
        "cancel",
        "auth",
        "key_names",
        "headers",
        "overrides",
        "timeouts",
        "base_url",
    ):
        assert getattr(after, name) == getattr(own, name), name


def test_a_response_that_tells_nothing_leaves_all_to_the_user():
    text, service = drafted(NOTHING)
    assert "# id = " in text
    assert isinstance(service.read_submit(answer(NOTHING), 0.0, "/responses"), Ambiguous)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        (f"{BASE}/requests/r1/status", "/requests/r1/status"),
        ("/v1/requests/r1", "/requests/r1"),
        (f"{BASE}/record?task=r1&x=1", "/record?task=r1&x=1"),
        # of another origin, of another path, a cancel, one that no path may be
        ("https://other.example/v1/r1", "/responses/r1"),
        ("https://api.example.evil/v1/r1", "/responses/r1"),
        ("https://api.example/v2/r1", "/responses/r1"),
        (f"{BASE}/requests/r1/cancel", "/responses/r1"),
        (f"{BASE}/../r1", "/responses/r1"),
        (f"{BASE}/xr1", "/responses/r1"),
        (f"{BASE}/r1#\x1b", "/responses/r1"),
    ],
)
def test_a_url_of_the_same_service_says_where_the_job_is(url, path):
    _, service = drafted({"request_id": "r1", "response_url": f"{BASE}/zzz/r1/cancel", "status_url": url})
    assert service.poll("r1").path == f"/v1{path}"


def test_a_status_at_the_top_that_is_not_the_jobs_is_not_taken_for_it():
    """Else `success` of the request would end every job at once."""
    text, service = drafted({"status": "ok", "result": {"job_id": "j"}})
    assert '\nstatus = "result.status"' in text
    poll = service.read_poll(answer({"status": "success", "result": {"job_id": "j"}}), 0.0, "j")
    assert isinstance(poll.outcome, Running)


def test_a_result_at_once_is_read_where_it_is_likely():
    body = {"images": [{"url": "https://x/1.png"}], "seed": 7}
    _, service = drafted(body, path=IMAGES)
    assert isinstance(service.read_submit(answer(body), 0.0, IMAGES).outcome, Ended)


@pytest.mark.parametrize(
    "body", [NOTHING, {"result": {"job_id": "j"}}, {"code": 401, "text": "no", "url": "x"}], ids=str
)
def test_a_profile_that_is_not_completed_makes_no_success_of_anything_at_once(body):
    _, service = drafted(body, path=IMAGES)
    verdict = service.read_submit(answer(body), 0.0, IMAGES)
    assert isinstance(verdict, Ambiguous)
    assert verdict.problem.code in ("answer_lost", "unusable_job_id")


def test_a_job_of_an_endpoint_that_answers_at_once_needs_two_lines_to_be_polled():
    body = {"result": {"job_id": "j"}}
    text, _ = drafted(body, path=IMAGES)
    completed = text.replace("# queues", "queues").replace("# poll", "poll").replace("# status", "status")
    profile = read_profile(tomllib.loads(completed), "p.toml")
    service = choose(dict.fromkeys(profile.key_names, KEY), service=profile)
    verdict = service.read_submit(answer(body), 0.0, IMAGES)
    assert isinstance(verdict, Accepted)
    assert verdict.job_id == "j"
    assert profile.poll == Call("GET", "/images/generations/")


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["id", "taskId", "status", "data", "url"]) | st.text(max_size=5), JSON, max_size=5)
)
def test_whatever_comes_the_profile_loads(body):
    drafted(body)
    drafted(body, path=IMAGES)
