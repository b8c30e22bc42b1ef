"""The service of a batch is read from its journal's header; no crafted header steers an API key anywhere."""

from dataclasses import replace

import pytest

from batchrun.core.journal.entries import Header
from batchrun.core.settings.settings import Secret, UsageError
from batchrun.services.choice import choose
from batchrun.services.of_batch import address_of, begun_with, explicit_flags, run_id_for, spelled

KEY = "sk-canary-77aa"
OPENAI = {"OPENAI_API_KEY": KEY}
AZURE = {"AZURE_OPENAI_API_KEY": KEY}
GOOD, EVIL, LOCAL = "https://llm.example/v1", "https://evil.example/v1", "http://127.0.0.1:8000/v1"


def header(origin=GOOD, service="compatible", key=KEY, half="0123456789abcdef"):
    """As a batch that was started there with this key has it."""
    run_id = run_id_for(half, service, origin)
    fingerprint = "" if key is None else Secret(key, "test").fingerprint(run_id.encode())
    return Header(1, run_id, service, origin, "", fingerprint, {}, "in.jsonl", 1.0)


@pytest.mark.parametrize(
    ("found", "environment"),
    [
        (header(), OPENAI),
        (header(), {**OPENAI, **AZURE}),
        (header(), {**OPENAI, "OPENAI_BASE_URL": "https://another.example/v1"}),
        (header("https://res.openai.azure.com/openai/v1", "azure"), AZURE),
        (header("https://api.proxyapi.ru/openai/v1", "proxyapi"), {"PROXYAPI_API_KEY": KEY}),
        (header("https://api.openai.com/v1", "openai"), {**OPENAI, "OPENAI_BASE_URL": LOCAL}),
    ],
)
def test_the_key_that_it_was_started_with_is_enough(found, environment):
    service = begun_with(found, environment)
    assert (service.name, address_of(service)) == (found.service, found.origin)
    assert KEY in service.submit("/responses", b"").headers[service._auth.header]


def test_what_the_environment_names_anyway_needs_no_fingerprint():
    environment = {**OPENAI, "OPENAI_BASE_URL": GOOD}
    for found in (header(), header(key="sk-another"), header(key=None), replace(header(), run_id="0123456789abcdef")):
        assert begun_with(found, environment).base == choose(environment).base


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (header(EVIL, key="sk-guessed"), "another API key than yours"),
        (header(EVIL, key=None), "nothing in its journal ties to your API key"),
        (replace(header(), origin=EVIL), "nothing in its journal ties to your API key"),  # copied from another journal
        (replace(header(), service="proxyapi", origin=EVIL), "nothing in its journal ties to your API key"),
        (replace(header(EVIL), key_fingerprint=header().key_fingerprint), "another API key than yours"),
        (
            replace(header(), run_id="0123456789abcdef"),
            "nothing in its journal ties to your API key",
        ),  # an older release
        (header(GOOD, "mine"), "a service with a profile of its own"),
        (replace(header(), origin="https://llm.example.evil.example/v1"), "nothing in its journal ties"),
        (header(LOCAL, key="sk-guessed"), "another API key than yours"),  # a port of somebody else's
        (replace(header(), origin=LOCAL), "nothing in its journal ties to your API key"),
    ],
)
def test_a_crafted_header_is_refused_with_the_flags_to_type(found, why):
    with pytest.raises(UsageError) as caught:
        begun_with(found, OPENAI)
    said = str(caught.value)
    assert why in said
    assert found.origin in said
    assert said.endswith("".join(map(str, spelled(explicit_flags(found)))))
    assert KEY not in said


def test_http_is_refused_as_ever():
    with pytest.raises(UsageError, match="expected https, got"):
        begun_with(header("http://10.0.0.5:8000/v1"), OPENAI)
    assert begun_with(header("http://10.0.0.5:8000/v1"), OPENAI, allow_http=True).origin == "http://10.0.0.5:8000"


@pytest.mark.parametrize("origin", ["not an address", "https://user@evil.example/v1", "https://a.example/../v1", ""])
def test_what_is_no_address_is_refused(origin):
    with pytest.raises(UsageError):
        begun_with(header(origin), OPENAI)


def test_on_this_machine_no_key_needs_no_fingerprint():
    assert begun_with(header(LOCAL), OPENAI).secrets == (Secret(KEY, ""),)
    for found in (header(LOCAL), header(LOCAL, key="sk-rotated"), replace(header(), origin=LOCAL)):
        assert begun_with(found, {}).secrets == ()
    assert begun_with(header(LOCAL, key=None), OPENAI).secrets == (), "it was started without a key"
    given = Secret(KEY, "a file")
    assert begun_with(header(LOCAL, key=None), {}, key=given).secrets == (given,)


def test_a_key_that_a_command_renews_does_not_fit():
    """Nobody can tell which key it was: the flags are needed."""
    with pytest.raises(UsageError, match="another API key"):
        begun_with(header(), {}, token=Secret(KEY, "token"))


def test_flags_are_quoted_for_a_shell():
    options = spelled(explicit_flags(header("https://evil.example/$(reboot)/it's")))
    assert "".join(map(str, options)) == (
        "--service compatible --base-url 'https://evil.example/$(reboot)/it'\"'\"'s'"
    )  # fmt: skip
