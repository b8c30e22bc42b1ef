import pickle
import traceback

import openai
import orjson
import pytest

from batchrun import errors
from batchrun.core.records.record import RecordLine, Response, record_id
from batchrun.core.responses.error import ErrorParts, Source, judge, our_problem, problem_of
from batchrun.core.responses.http import Answer
from batchrun.core.responses.verdict import read_poll, read_submit
from batchrun.core.taxonomy.rules import KINDS, TAXONOMY, State, WordField
from batchrun.results.record import Record


def failed(code=None, status="failed", message="it broke", **more):
    """The exception of a background job that failed over there: its poll answered 200."""
    error = {"code": code, "message": message, **more}
    seen = read_poll(Answer(200, {}, __import__("orjson").dumps({"status": status, "error": error})), 0.0, "resp_1")
    return of_problem(seen.outcome.problem, seen.outcome.state, status, seen.outcome.billing_reason)


def of_problem(problem, state, status=None, billing_reason=None):
    return errors.error_of(record(state, job_id="resp_1", status=status, error=problem, billing_reason=billing_reason))


def record(state, **more):
    return Record(RecordLine(id=record_id("r", "row-1"), custom_id="row-1", state=state, **more).to_json())


def refused(status, body=b""):
    verdict = read_submit(Answer(status, {}, body), 0.0)
    return of_problem(verdict.problem, verdict.rule.state)


def test_the_hierarchy_is_the_one_of_the_table():
    for name, kind in KINDS.items():
        exception = getattr(errors, name)
        assert exception.__name__ == name
        assert exception.__bases__ == (getattr(errors, kind.parent),)
        assert exception.__doc__


def test_a_failed_background_job_is_caught_as_the_sdks_own_error():
    with pytest.raises(openai.InternalServerError) as caught:
        raise failed("server_error").to_openai()
    assert caught.value.code == "server_error"
    assert caught.value.status_code == 500
    assert caught.value.response.headers[errors.SYNTHETIC_HEADER] == "true"
    assert isinstance(caught.value.__cause__, errors.InternalServerError)


@pytest.mark.parametrize(
    ("error", "ours", "theirs", "status"),
    [
        (failed("rate_limit_exceeded"), "RateLimitError", openai.RateLimitError, 429),
        (failed("insufficient_quota"), "QuotaExceededError", openai.RateLimitError, 429),
        (failed("budget_exceeded"), "QuotaExceededError", openai.APIStatusError, 402),
        (refused(402), "QuotaExceededError", openai.APIStatusError, 402),
        (refused(429, b'{"error": {"code": "insufficient_quota"}}'), "QuotaExceededError", openai.RateLimitError, 429),
        (refused(401), "AuthenticationError", openai.AuthenticationError, 401),
        (refused(403), "PermissionDeniedError", openai.PermissionDeniedError, 403),
        (refused(404), "NotFoundError", openai.NotFoundError, 404),
        (refused(422), "UnprocessableEntityError", openai.UnprocessableEntityError, 422),
        (failed("409"), "ConflictError", openai.ConflictError, 409),
        (failed("invalid_prompt"), "BadRequestError", openai.BadRequestError, 400),
        (failed("moderation_blocked"), "ContentPolicyError", openai.BadRequestError, 400),
        (failed("bio_policy"), "PolicyViolationError", openai.BadRequestError, 400),
        (failed("vector_store_timeout"), "APITimeoutError", openai.APITimeoutError, None),
        (of_problem(our_problem("deadline_exceeded", "24 h"), State.TIMEOUT), "APITimeoutError", openai.APITimeoutError, None),
        (of_problem(our_problem("connection_failed", "refused"), State.SERVICE_UNAVAILABLE), "APIConnectionError", openai.APIConnectionError, None),
        (of_problem(our_problem("invalid_json", "line 3"), State.REJECTED), "BadRequestError", openai.BadRequestError, 400),
        (of_problem(our_problem("answer_lost", "?"), State.UNCONFIRMED), "JobUnconfirmed", openai.APIError, None),
        (failed("max_output_tokens", status="incomplete"), "JobIncomplete", openai.APIError, None),
        (failed(status="cancelled"), "JobCancelled", openai.APIError, None),
        (failed(), "JobFailed", openai.APIError, None),
    ],
)  # fmt: skip
def test_ours_and_theirs(error, ours, theirs, status):
    assert type(error) is getattr(errors, ours)
    made = error.to_openai()
    assert type(made) is theirs
    assert getattr(made, "status_code", None) == status
    assert made.__cause__ is error


EXAMPLES = {"3xx": 308, "4xx": 418, "5xx": 502}


def of_rule(rule):
    """The exception of a row that ended by that rule alone."""
    word, state, status = rule.word, rule.state, "failed"
    match rule.field:
        case WordField.CODE:
            problem = judge(ErrorParts(code=word), Source.SERVICE, status_word=status).problem
        case WordField.TYPE:
            problem = judge(ErrorParts(type=word), Source.SERVICE, status_word=status).problem
        case WordField.HTTP:
            number = EXAMPLES.get(word) or int(word)
            problem = judge(ErrorParts(), Source.HTTP, http_status=number).problem
        case WordField.STATUS:
            status = word
            problem = judge(ErrorParts(), Source.SERVICE, status_word=word).problem
        case WordField.REASON:
            status = "incomplete"
            body = {"status": status, "incomplete_details": {"reason": word}}
            problem = read_poll(Answer(200, {}, orjson.dumps(body)), 0.0, "resp_1").outcome.problem
        case WordField.TOOL if word == "aborted_by_system":
            status = "aborted"
            body = {"status": status, "aborted_by": "system"}
            problem = read_poll(Answer(200, {}, orjson.dumps(body)), 0.0, "resp_1").outcome.problem
        case WordField.TOOL:
            problem = our_problem(word, "because")
    return of_problem(problem, state, status)


@pytest.mark.parametrize("rule", TAXONOMY, ids=lambda rule: f"{rule.field}-{rule.word}")
def test_the_sdks_class_is_the_one_that_the_taxonomy_names(rule):
    error = of_rule(rule)
    assert type(error).__name__ == rule.kind
    raised = error.to_openai()
    assert type(raised) is getattr(openai, rule.sdk or "APIError")
    if isinstance(raised, openai.APIStatusError):
        assert raised.status_code == rule.http_status
    with pytest.raises(type(raised)):
        error.record.raise_for_state(as_openai=True)


@pytest.mark.parametrize("name", KINDS)
def test_the_sdks_class_is_the_one_that_explain_names(name):
    named = KINDS[name].sdk
    raised = of_problem(
        problem_of(next(rule for rule in TAXONOMY if rule.kind == name), ErrorParts("x"), Source.SERVICE), State.FAILED
    ).to_openai()
    assert type(raised) is getattr(openai, named or "APIError")


def cut_off(body, verdict):
    """The SDK's exception for a response that was cut off at its cap."""
    outcome = verdict.outcome
    assert outcome.state is State.INCOMPLETE
    response = Response(200, None, orjson.dumps(body))
    more = {"job_id": "resp_1", "model": outcome.model, "usage": outcome.usage, "output_text": outcome.text}
    error = errors.error_of(
        record(outcome.state, status=outcome.status, error=outcome.problem, response=response, **more)
    )
    assert type(error) is errors.LengthFinishReasonError
    with pytest.raises(openai.LengthFinishReasonError) as caught:
        raise error.to_openai()
    assert caught.value.__cause__ is error
    return caught.value


def test_what_was_cut_off_carries_a_chat_completion():
    body = {
        "id": "resp_1", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "model": "gpt-5",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "Once upon"}]}],
        "usage": {"input_tokens": 3, "output_tokens": 60, "total_tokens": 63},
    }  # fmt: skip
    error = cut_off(body, read_poll(Answer(200, {}, orjson.dumps(body)), 0.0, "resp_1"))
    (choice,) = error.completion.choices
    assert (choice.finish_reason, choice.message.content) == ("length", "Once upon")
    assert (error.completion.id, error.completion.model) == ("resp_1", "gpt-5")
    assert (error.completion.usage.completion_tokens, error.completion.usage.total_tokens) == (60, 63)
    assert "length limit was reached" in str(error)


@pytest.mark.parametrize("more", [{}, {"usage": None}, {"usage": "free", "_fields_set": 1, "model": 7}])
def test_a_chat_completion_that_was_cut_off_is_the_one_that_came(more):
    choices = [{"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "Once"}, "seen": 7}]
    body = {"id": "chatcmpl-9", "choices": choices, "usage": {"completion_tokens": 60}, **more}
    answer = Answer(200, {}, orjson.dumps(body))
    error = cut_off(body, read_submit(answer, 0.0, background=False, result="choices"))
    assert error.completion.id == "chatcmpl-9"
    assert (error.completion.choices[0].message.content, error.completion.choices[0].seen) == ("Once", 7)


@pytest.mark.parametrize(
    "rule", [rule for rule in TAXONOMY if rule.field is WordField.TOOL], ids=lambda rule: rule.word
)
def test_what_batchrun_says_itself_converts_too(rule):
    error = of_problem(our_problem(rule.word, "because"), rule.state)
    assert isinstance(error.to_openai(), openai.OpenAIError)


def test_an_exception_carries_what_a_program_needs():
    error = failed("insufficient_quota", type="insufficient_quota", param="model", message="no money")
    assert (error.code, error.type, error.param, error.message) == (
        "insufficient_quota",
        "insufficient_quota",
        "model",
        "no money",
    )
    assert (error.retryable, error.billing_reason, error.record.key) == (False, "quota", "row-1")
    assert str(error) == "row-1: no money"
    assert failed("server_error").type == "internal_server_error", (
        "the taxonomy names a type where the service names none"
    )


def test_an_exception_survives_a_process_boundary():
    error = pickle.loads(pickle.dumps(failed("server_error")))
    assert (type(error), error.code) == (errors.InternalServerError, "server_error")


def test_success_is_no_error():
    assert errors.error_of(record(State.SUCCEEDED)) is None


def test_without_openai_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(ImportError, match=r"pip install 'batchrun-jobs\[openai\]'"):
        failed("server_error").to_openai()


HOSTILE = "a\x1b]52;c;aGk=\x07\r\nb\u202ec\x9b2J\x7f\u2028d\ue000"


@pytest.mark.parametrize("code", ["server_error", "rate_limit_exceeded", "content_filter"])
def test_h13_the_text_of_an_exception_moves_no_terminal(code):
    line = orjson.loads(failed(code, message=HOSTILE).record.to_json())
    line["custom_id"] = HOSTILE
    error = errors.error_of(Record(orjson.dumps(line)))
    assert (error.message, error.record.key) == (HOSTILE, HOSTILE), "for programs as it was received"
    for one in (error, error.to_openai()):
        assert str(one).isprintable()
        assert r"a\x1b]52;c;aGk=\x07\r\nb\u202ec\x9b2J\x7f\u2028d\ue000" in str(one)
        assert "".join(traceback.format_exception_only(one)).removesuffix("\n").isprintable()
