"""Checked by type checkers, never run: what `batchrun.taxonomy` promises to them."""

from collections.abc import Mapping
from pathlib import Path
from typing import assert_type

import batchrun
from batchrun import taxonomy
from batchrun.core.responses.error import Problem
from batchrun.core.responses.outcome import Billing
from batchrun.errors import JobError
from batchrun.taxonomy import Retry, Rule, State, StateGroup, Verdict, WordField, classify, raise_for_response


def a_verdict(response: object) -> None:
    verdict = classify(response)
    assert_type(verdict, Verdict)
    assert_type(verdict.state, State | None)
    assert_type(verdict.running, bool | None)
    assert_type(verdict.error, Problem | None)
    assert_type(verdict.retryable, bool)
    assert_type(verdict.retries, int)
    assert_type(verdict.halts, bool)
    assert_type(verdict.billing, Billing)
    assert_type(verdict.billing_reason, str | None)
    assert_type(verdict.advice, str)
    assert_type(verdict.exception, JobError | None)
    assert_type(verdict.status, str | None)
    assert_type(verdict.job_id, str | None)
    assert_type(verdict.retry_after, float | None)
    assert_type(verdict.warnings, tuple[str, ...])
    if verdict.error is not None:
        assert_type(verdict.error.code, str | None)
        assert_type(verdict.error.kind, str)
    if verdict.exception is not None:
        assert_type(verdict.exception.to_openai(), Exception)
        raise verdict.exception
    verdict.retries = 3  # type: ignore[misc]


def responses_of_any_kind() -> None:
    assert_type(classify({"status": "failed"}), Verdict)
    assert_type(classify(b"{}"), Verdict)
    assert_type(classify("{}", service=Path("profile.toml")), Verdict)
    assert_type(batchrun.taxonomy.classify(ValueError(), service="azure"), Verdict)
    raise_for_response({}, as_openai=True, service="profile.toml")
    raise_for_response({}, True)  # type: ignore[call-arg]  # noqa: FBT003
    classify({}, service=3)  # type: ignore[arg-type]


def the_table() -> None:
    assert_type(taxonomy.VERSION, int)
    assert_type(taxonomy.rules(), tuple[Rule, ...])
    assert_type(taxonomy.states(), Mapping[State, str])
    assert_type(taxonomy.words(), Mapping[str, StateGroup])
    assert_type(taxonomy.rule(429), Rule | None)
    rule = taxonomy.rule("insufficient_quota")
    if rule is not None:
        assert_type(rule.code, str)
        assert_type(rule.field, WordField)
        assert_type(rule.state, State)
        assert_type(rule.retry, Retry)
        assert_type(rule.retryable, bool)
        assert_type(rule.retries, int)
        assert_type(rule.since, int)
        assert_type(rule.advice, str)
    taxonomy.clasify({})  # type: ignore[attr-defined]
