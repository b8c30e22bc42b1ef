"""Which service, at which address, with which key; and what is refused, with its remedy."""

import pickle
import traceback
from copy import deepcopy

import orjson
import pytest

from batchrun.core.rows.parse import RowParser
from batchrun.core.settings.settings import Secret, UsageError
from batchrun.services.address import BaseUrl, read_base_url
from batchrun.services.choice import choose
from batchrun.services.custom import read_profile
from tests.services.over_socket import KEY, usage_error

OPENAI = {"OPENAI_API_KEY": KEY}
AZURE = {"AZURE_OPENAI_API_KEY": KEY, "AZURE_OPENAI_ENDPOINT": "https://res.openai.azure.com/"}


@pytest.mark.parametrize(
    ("environment", "flags", "name", "base", "header"),
    [
        (OPENAI, {}, "openai", "https://api.openai.com/v1", "authorization"),
        (OPENAI, {"base_url": "https://eu.api.openai.com/v1/"}, "openai", "https://eu.api.openai.com/v1", "authorization"),
        ({**OPENAI, "OPENAI_BASE_URL": "https://llm.example/v1"}, {}, "compatible", "https://llm.example/v1", "authorization"),
        ({**OPENAI, "OPENAI_BASE_URL": "https://llm.example/v1"}, {"base_url": "http://localhost:8000"}, "compatible", "http://localhost:8000", "authorization"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:8000/v1"}, {}, "compatible", "http://127.0.0.1:8000/v1", None),
        (AZURE, {}, "azure", "https://res.openai.azure.com/openai/v1", "api-key"),
        ({**AZURE, "AZURE_OPENAI_AD_TOKEN": "token"}, {}, "azure", "https://res.openai.azure.com/openai/v1", "authorization"),
        (AZURE, {"base_url": "https://res.openai.azure.com/openai/v1/"}, "azure", "https://res.openai.azure.com/openai/v1", "api-key"),
        (AZURE, {"base_url": "https://res.openai.azure.com/openai"}, "azure", "https://res.openai.azure.com/openai/v1", "api-key"),
        ({**AZURE, **OPENAI}, {"service": "azure"}, "azure", "https://res.openai.azure.com/openai/v1", "api-key"),
        ({**AZURE, **OPENAI}, {"service": "openai"}, "openai", "https://api.openai.com/v1", "authorization"),
        ({**OPENAI, "AZURE_OPENAI_API_KEY": ""}, {}, "openai", "https://api.openai.com/v1", "authorization"),
        (OPENAI, {"service": "proxyapi"}, "proxyapi", "https://api.proxyapi.ru/openai/v1", "authorization"),
        (OPENAI, {"service": "compatible", "base_url": "http://10.0.0.5:8000/v1", "allow_http": True}, "compatible", "http://10.0.0.5:8000/v1", "authorization"),
    ],
)  # fmt: skip
def test_what_is_chosen(environment, flags, name, base, header):
    service = choose(environment, **flags)
    assert (service.name, str(service.base)) == (name, base)
    sent = service.poll("resp_1").headers
    assert [found for found in ("authorization", "api-key") if found in sent] == ([header] if header else [])


@pytest.mark.parametrize(
    ("environment", "flags", "words"),
    [
        ({**OPENAI, **AZURE}, {}, ["OPENAI_API_KEY", "AZURE_OPENAI_API_KEY, AZURE_OPENAI_ENDPOINT", "--service openai or --service azure"]),
        ({**OPENAI, **AZURE}, {"base_url": "https://llm.example"}, ["--service openai or --service azure"]),
        ({}, {}, ["no API key for openai: OPENAI_API_KEY is not set", "--token-command"]),
        ({}, {"base_url": "https://llm.example/v1"}, ["no API key for compatible"]),
        ({"AZURE_OPENAI_API_KEY": KEY}, {}, ["no address for azure", "--base-url or AZURE_OPENAI_ENDPOINT"]),
        ({"AZURE_OPENAI_ENDPOINT": "https://res.openai.azure.com"}, {}, ["AZURE_OPENAI_AD_TOKEN or AZURE_OPENAI_API_KEY is not set"]),
        (OPENAI, {"service": "opnai"}, ["no service 'opnai'", "did you mean openai?"]),
        (OPENAI, {"service": "zzz"}, ["choose one of openai, azure, proxyapi, compatible", "FILE.toml"]),
        (OPENAI, {"service": "compatible"}, ["--base-url or OPENAI_BASE_URL"]),
        ({"OPENAI_API_KEY": KEY + "\n"}, {}, ["OPENAI_API_KEY", "a line break", "set it again"]),
        ({"OPENAI_API_KEY": "sk-" + "ключ"}, {}, ["character 4 of 7 is another character"]),
        ({"OPENAI_API_KEY": f'"{KEY}"'}, {}, ["is in quotes"]),
        ({"OPENAI_API_KEY": f"Bearer {KEY}"}, {}, ["character 7", "a space"]),
        ({**OPENAI, "OPENAI_CUSTOM_HEADERS": "nonsense"}, {}, ["OPENAI_CUSTOM_HEADERS", "line 1 has no colon"]),
        ({**OPENAI, "OPENAI_CUSTOM_HEADERS": "Host: elsewhere"}, {}, ["Host is batchrun's own"]),
        ({**OPENAI, "OPENAI_CUSTOM_HEADERS": f"Authorization: Bearer {KEY}"}, {}, ["carries the API key"]),
        ({**OPENAI, "OPENAI_CUSTOM_HEADERS": f"X y: {KEY}"}, {}, ["the name of a header"]),
        ({**OPENAI, "OPENAI_ORG_ID": "org\r\nhost: x"}, {}, ["OPENAI_ORG_ID", "printable ASCII"]),
    ],
)  # fmt: skip
def test_what_is_refused(environment, flags, words):
    complaint = usage_error(choose, environment, **flags)
    for word in words:
        assert word in complaint
    assert KEY not in complaint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://API.Example.com:443/v1/", BaseUrl("https://api.example.com", "/v1")),
        ("https://api.example.com:8443", BaseUrl("https://api.example.com:8443")),
        ("http://localhost:8000/v1", BaseUrl("http://localhost:8000", "/v1", loopback=True)),
        ("http://127.8.0.1/", BaseUrl("http://127.8.0.1", "", loopback=True)),
        ("http://[::1]:8000/a/b", BaseUrl("http://[::1]:8000", "/a/b", loopback=True)),
        ("https://api.localhost", BaseUrl("https://api.localhost")),
        ("https://api.example.com.", BaseUrl("https://api.example.com")),
    ],
)
def test_a_base_url(text, expected):
    assert read_base_url(text, "--base-url") == expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("http://api.example.com", "expected https"),
        ("http://127.0.0.1.example.com", "expected https"),
        ("http://localhost.example.com", "expected https"),
        ("http://api.localhost", "expected https"),
        ("http://localhost.localhost.:8000", "expected https"),
        ("http://127.1", "a host name or an address"),
        ("http://2130706433", "a host name or an address"),
        ("http://0x7f000001", "a host name or an address"),
        ("http://127.0.0.01", "a host name or an address"),
        ("https://user:secret-word@api.example.com", "without a user or password"),
        ("https:/user:secret-word@api.example.com", "without a user or password"),
        ("https://api.example.com/v1?api-version=1", "without a query"),
        ("https://api.example.com/v1#x", "without a fragment"),
        ("https://api.example.com/../v1", "without . and .."),
        ("https://api.example.com/%2e%2e/v1", "expected https://HOST"),
        ("https://api.example.com//v1", "expected https://HOST"),
        ("https://api.example.com\\@evil.example", "without a user"),
        ("https://api.example.com\\evil", "expected https://HOST"),
        ("https://bücher.example", "expected https://HOST"),
        ("https://api.example.com:0", "a port from 1 to 65535"),
        ("https://api.example.com:99999", "a port from 1 to 65535"),
        ("https://", "expected https://HOST"),
        ("api.example.com", "expected https://HOST"),
        ("ftp://api.example.com", "expected https://HOST"),
        ("https://api.example.com/v1\n", "expected https://HOST"),
        ("", "expected https://HOST"),
    ],
)
def test_an_address_that_is_not_what_it_seems_is_refused(text, word):
    complaint = usage_error(read_base_url, text, "--base-url")
    assert complaint.startswith("--base-url: ")
    assert word in complaint
    assert "secret-word" not in complaint


# --- what a service is asked for ---


def test_a_service_without_background_is_never_asked_for_it():
    table = {"name": "plain", "base_url": "https://plain.example", "endpoints": {"at_once": ["/responses"]}}
    service = choose({}, service=read_profile(table, "plain.toml"))
    assert not service.can_cancel
    line = b'{"model": "m", "input": "x", "background": true}'
    intake = RowParser(endpoints=service.profile.endpoints)
    prepared = intake.prepare(intake.admit(line), line)
    assert orjson.loads(prepared.body) == {"model": "m", "input": "x"}
    assert prepared.warnings == ("background_overridden",)
    with pytest.raises(UsageError, match="end at the submit"):
        service.poll("resp_1")


def test_polls_share_what_they_have_in_common():
    service = choose(OPENAI)
    first, second = service.poll("resp_1"), service.poll("resp_2")
    assert (first.path, second.path) == ("/v1/responses/resp_1", "/v1/responses/resp_2")
    assert first.headers is second.headers


def test_what_a_journal_keeps_of_a_service():
    service = choose({**OPENAI, "OPENAI_ORG_ID": "org-1"})
    assert service.identity() == {
        "service": "openai",
        "origin": "https://api.openai.com",
        "path": "/v1",
        "organisation": "org-1",
        "project": None,
    }
    print_ = service.key_fingerprint(b"salt")
    assert print_ == choose(OPENAI).key_fingerprint(b"salt")
    assert print_ not in (
        choose(OPENAI).key_fingerprint(b"pepper"),
        choose({"OPENAI_API_KEY": KEY + "x"}).key_fingerprint(b"salt"),
    )
    assert KEY not in print_
    assert choose({}, token=Secret(KEY, "--token-command")).key_fingerprint(b"salt") is None
    assert choose({}, base_url="http://localhost:1").key_fingerprint(b"salt") is None


def test_a_renewed_token_makes_another_service_of_the_same_kind():
    old = choose(AZURE, token=Secret("old-token", "--token-command"))
    new = old.with_key(Secret("new-token", "--token-command"))
    assert old.poll("r").headers["authorization"] == "Bearer old-token"
    assert new.poll("r").headers["authorization"] == "Bearer new-token"
    assert "api-key" not in new.poll("r").headers
    assert new.key_fingerprint(b"salt") is None


def test_a_key_from_a_file_outranks_the_environment():
    assert choose(AZURE, key=Secret("file-key", "key.txt")).poll("r").headers["api-key"] == "file-key"


# --- the key does not show itself ---


def test_no_repr_no_pickle_no_traceback_shows_the_key():
    service = choose({**OPENAI, "OPENAI_CUSTOM_HEADERS": f"X-Gate-Token: {KEY}2"})
    request = service.submit("/responses", b"{}")
    secret = service.key
    shown = [
        repr(service),
        repr(request),
        repr(secret),
        f"{secret}",
        str(request.headers),
        repr(service.secrets),
        str(vars(service)),
    ]
    try:
        service.cancel("../x")  # raises below, with all of the service in its frames
    except ValueError as error:
        shown += traceback.TracebackException.from_exception(error, capture_locals=True).format()
    assert not [text for text in shown if KEY in text]
    assert [found.reveal() for found in service.secrets] == [KEY, KEY + "2"]
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(secret)
    assert deepcopy(secret) == secret


@pytest.mark.parametrize("value", ["", "a b", "a\nb", "\x7f", "é", "'quoted'", "x" * 16_385])
def test_a_key_that_would_break_a_header_is_refused_without_showing_it(value):
    complaint = usage_error(Secret, value, "OPENAI_API_KEY")
    assert complaint.startswith("OPENAI_API_KEY: ")
    assert not value or len(value) < 3 or value not in complaint


# --- keys that are none, and keys where none belong ---


PROXYAPI = {"PROXYAPI_API_KEY": KEY}


@pytest.mark.parametrize("key", ["your-api-key", "<key>", "sk-...", "YOUR_API_KEY", "sk-your-api-key-here"])
@pytest.mark.parametrize(
    ("environment", "name", "flags"),
    [(OPENAI, "OPENAI_API_KEY", {}), (AZURE, "AZURE_OPENAI_API_KEY", {}), (PROXYAPI, "PROXYAPI_API_KEY", {"service": "proxyapi"})],
    ids=["openai", "azure", "proxyapi"],
)  # fmt: skip
def test_a_placeholder_is_refused_where_a_real_key_is_needed(environment, name, flags, key):
    complaint = usage_error(choose, {**environment, name: key}, **flags)
    assert complaint.startswith(f"{name}: expected an API key for ")
    assert "got a placeholder; set " in complaint
    with pytest.raises(UsageError, match="got a placeholder"):
        choose({**environment, name: ""}, key=Secret(key, "key.txt"), **flags)


@pytest.mark.parametrize("key", ["your-api-key", "<key>", "sk-..."])
def test_a_placeholder_is_a_key_like_any_other_elsewhere(key):
    for options in ({"base_url": "http://127.0.0.1:8000/v1"}, {"base_url": "https://llm.example/v1"}):
        service = choose({"OPENAI_API_KEY": key}, **options)
        assert service.name == "compatible"
        assert [secret.is_searched_for for secret in service.secrets] == [False]


SECRETS = [KEY, "0123456789abcdef0123456789abcdef", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "url",
    ["https://api.example.com/v1?api-key={}", "https://api.example.com/v1#{}", "{}", "https://u:{}@api.example.com"],
)
def test_a_refused_base_url_is_shown_without_what_may_be_a_key(url, secret):
    with pytest.raises(UsageError) as caught:
        choose({"OPENAI_API_KEY": "another-key-0123456789", "OPENAI_BASE_URL": url.format(secret)})
    assert secret not in f"{caught.value}{caught.value!r}{''.join(traceback.format_exception(caught.value))}"
    assert str(caught.value).startswith("OPENAI_BASE_URL: expected")


@pytest.mark.parametrize("name", ["OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_BASE_URL"])
@pytest.mark.parametrize("key", [KEY, "a-key-of-no-known-form-01"])
def test_a_key_in_a_variable_that_is_journaled_is_refused(name, key):
    value = f"https://api.example.com/{key}/v1" if name == "OPENAI_BASE_URL" else key
    complaint = usage_error(choose, {"OPENAI_API_KEY": key, name: value})
    assert "expected no API key, got one" in complaint
    assert key not in complaint
