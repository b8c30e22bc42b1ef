import hashlib
import json
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.taxonomy.classify import classify, http_rule, reason_rule
from batchrun.core.taxonomy.explain import whole_table
from batchrun.core.taxonomy.rules import KINDS, TAXONOMY, TAXONOMY_VERSION, WORDS, Retry, State, StateGroup, WordField

# A published table has a version. Whoever changes its content raises TAXONOMY_VERSION and adds a line here.
DIGESTS = {1: "22a92e02a979b478", 2: "5ec589cbe49fd3da", 3: "e8679587fd801f6b"}


def test_the_version_changes_with_the_content():
    table = whole_table()
    del table["version"]
    for rule in table["rules"]:
        del rule["retryable"], rule["retries"], rule["since"]  # they follow from `new_attempt` and from the versions
    digest = hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:16]
    assert DIGESTS.get(TAXONOMY_VERSION) == digest, "the taxonomy changed: raise TAXONOMY_VERSION, note its digest"
    assert max(DIGESTS) == TAXONOMY_VERSION


def test_each_word_occurs_once_in_its_field():
    places = [(rule.field, rule.word.lower()) for rule in TAXONOMY]
    assert len(places) == len(set(places))


@pytest.mark.parametrize("rule", TAXONOMY, ids=lambda rule: f"{rule.field}-{rule.word}")
def test_a_rule_is_whole(rule):
    assert rule.kind in KINDS
    assert rule.advice.strip() == rule.advice != ""
    assert rule.state is not State.SUCCEEDED
    if rule.billing_reason:
        assert (rule.state, rule.retry, rule.halts) == (State.BLOCKED_BUDGET, Retry.NO, True)
    if rule.retryable:
        assert not rule.halts


def test_every_final_status_word_but_success_has_a_rule():
    ruled = {rule.word for rule in TAXONOMY if rule.field is WordField.STATUS}
    not_errors = {StateGroup.SUCCESS, StateGroup.IN_PROGRESS, StateGroup.CANCELLING, StateGroup.UNKNOWN}
    assert ruled == {word for word, group in WORDS.items() if group not in not_errors}


@pytest.mark.parametrize(
    ("facts", "word", "retry", "state"),
    [
        # billing outranks everything
        ({"code": "insufficient_quota", "http_status": 429}, "insufficient_quota", "no", "blocked_budget"),
        ({"code": None, "type_": "insufficient_quota", "http_status": 429}, "insufficient_quota", "no", "blocked_budget"),
        ({"code": "rate_limit_exceeded", "type_": "insufficient_quota"}, "insufficient_quota", "no", "blocked_budget"),
        ({"code": None, "http_status": 402}, "402", "no", "blocked_budget"),
        ({"code": "whatever", "http_status": 402}, "402", "no", "blocked_budget"),
        # code before HTTP
        ({"code": "model_not_found", "http_status": 400}, "model_not_found", "no", "rejected"),
        ({"code": "context_length_exceeded", "http_status": 400}, "context_length_exceeded", "no", "rejected"),
        ({"code": "slow_down", "http_status": 503}, "slow_down", "yes", "rate_limited"),
        ({"code": "content_filter", "http_status": 400}, "content_filter", "no", "blocked"),
        ({"code": "responsibleaipolicyviolation", "http_status": 400}, "ResponsibleAIPolicyViolation", "no", "blocked"),
        # but never a generic code, and never against a 401
        ({"code": "invalid_request_error", "http_status": 429}, "429", "yes", "rate_limited"),
        ({"code": "invalid_request_error", "http_status": 401}, "401", "no", "rejected"),
        ({"code": "server_error", "http_status": 401}, "401", "no", "rejected"),
        ({"code": "invalid_request_error"}, "invalid_request_error", "no", "rejected"),
        # a content type before HTTP, other types after it
        ({"type_": "image_generation_user_error", "http_status": 400}, "image_generation_user_error", "no", "blocked"),
        ({"type_": "invalid_request_error", "http_status": 429}, "429", "yes", "rate_limited"),
        ({"type_": "server_error"}, "server_error", "twice", "internal_error"),
        ({"type_": "rate_limit_error", "code": "brand_new"}, "rate_limit_error", "yes", "rate_limited"),
        # HTTP
        ({"http_status": 400}, "400", "no", "rejected"),
        ({"http_status": 409}, "409", "limited", "failed"),
        ({"http_status": 418}, "4xx", "no", "rejected"),
        ({"http_status": 500}, "5xx", "twice", "internal_error"),
        ({"http_status": 503}, "503", "yes", "service_unavailable"),
        ({"http_status": 400, "message": "The queue is full, please wait"}, "queue_full", "yes", "overloaded"),
        ({"http_status": 400, "message": "too many queued jobs"}, "queue_full", "yes", "overloaded"),
        ({"http_status": 400, "message": "queue_name is full of spaces"}, "400", "no", "rejected"),
        # codes that are numbers
        ({"code": "429"}, "429", "yes", "rate_limited"),
        ({"code": "500"}, "5xx", "twice", "internal_error"),
        ({"code": "200"}, "failed", "no", "failed"),
        # status words
        ({"status_word": "overloaded"}, "overloaded", "yes", "overloaded"),
        ({"status_word": "failed", "code": "server_error"}, "server_error", "twice", "internal_error"),
        ({"status_word": "failed", "code": "never_heard_of"}, "failed", "no", "failed"),
        ({}, "failed", "no", "failed"),
    ],
)  # fmt: skip
def test_the_most_telling_fact_decides(facts, word, retry, state):
    rule, by_text = classify(**{"code": None, **facts})
    assert (rule.word, rule.retry, rule.state, by_text) == (word, retry, state, False)


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ("Rate limit reached for gpt-5 in organization", "rate_limited"),
        ("Too Many Requests", "rate_limited"),
        ("You exceeded your current quota, please check your plan and billing details", "insufficient_quota"),
    ],
)
def test_only_a_failure_that_names_nothing_is_judged_by_its_text(message, word):
    rule, by_text = classify(None, status_word="failed", message=message)
    assert (rule.word, by_text) == (word, True)
    rule, by_text = classify("invalid_prompt", status_word="failed", message=message)
    assert (rule.word, by_text) == ("invalid_prompt", False)


def test_allowances_never_exceed_what_the_user_allows():
    wanted = {Retry.NO: 0, Retry.ONCE: 1, Retry.TWICE: 2, Retry.LIMITED: 2, Retry.YES: 4}
    assert {retry: retry.allowance(4) for retry in Retry} == wanted
    assert {retry.allowance(0) for retry in Retry} == {0}
    assert Retry.TWICE.allowance(1) == 1


@given(st.integers(-10, 1000))
def test_every_error_status_has_a_rule_and_no_other_has(status):
    assert (http_rule(status) is not None) == (300 <= status < 600)


TEXT = st.one_of(st.none(), st.text(max_size=30), st.sampled_from([rule.word for rule in TAXONOMY]))


@given(TEXT, TEXT, st.one_of(st.none(), st.integers(-5, 700)), TEXT, st.text())
def test_anything_falls_under_some_rule(code, type_, http_status, word, message):
    rule, _ = classify(code, type_, http_status, word, message)
    assert rule in TAXONOMY


# --- held against the installed openai package; these fail when the SDK grows a word ---


def _literals(annotation):
    if typing.get_origin(annotation) is typing.Literal:
        return set(typing.get_args(annotation))
    return set().union(*map(_literals, typing.get_args(annotation)))


def test_every_error_code_of_the_sdk_has_a_rule():
    from openai.types.beta.threads.run import LastError
    from openai.types.responses import ResponseError

    codes = _literals(ResponseError.model_fields["code"].annotation) | _literals(
        LastError.model_fields["code"].annotation
    )
    known = {rule.word for rule in TAXONOMY if rule.field is WordField.CODE}
    assert len(codes) >= 21
    assert codes - known == set()


def test_every_reason_of_the_sdk_has_a_rule():
    from openai.types.beta.threads.run import IncompleteDetails as OfRun
    from openai.types.responses.response import IncompleteDetails

    reasons = _literals(IncompleteDetails.model_fields["reason"].annotation) | _literals(
        OfRun.model_fields["reason"].annotation
    )
    assert len(reasons) >= 6
    assert {reason for reason in reasons if reason_rule(reason).word != reason} == set()


def test_every_exception_of_the_sdk_is_known():
    import openai

    # Not errors of a job: roots, and what concerns a login, a webhook, a socket or the SDK's own parsing.
    apart = {"OpenAIError", "APIError", "APIResponseValidationError", "OAuthError", "InvalidWebhookSignatureError",
             "SubjectTokenProviderError", "WebSocketConnectionClosedError", "WebSocketQueueFullError"}  # fmt: skip
    classes = {
        name
        for name in dir(openai)
        if name.endswith("Error") and name[0] != "_" and issubclass(getattr(openai, name), Exception)
    }
    ours = {kind.sdk for kind in KINDS.values() if kind.sdk}
    assert classes - apart == ours
    assert {rule.sdk for rule in TAXONOMY if rule.sdk} <= classes
