"""Checked by mypy, never run: what the public names promise to a type checker."""

from typing import assert_type

from batchrun import Record
from batchrun.errors import JobError, RateLimitError, error_of


def an_exception_of_a_record(record: Record) -> None:
    error = error_of(record)
    assert_type(error, JobError | None)
    if isinstance(error, RateLimitError):
        assert_type(error.code, str | None)
        assert_type(error.type, str)
        assert_type(error.retryable, bool)
        assert_type(error.record, Record)
        assert_type(error.to_openai(), Exception)
