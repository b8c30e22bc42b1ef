"""The warnings of a record: what each says is odd about a row, whatever became of it."""

from __future__ import annotations

WARNINGS: dict[str, str] = {
    "empty_output": "the service completed the job, and its output is empty",
    "refusal": "the model refused: there is a refusal where the text would be",
    "tool_failed": "a tool gave no result, or an error; its type follows, as in `tool_failed:mcp_call`. An `image_generation_call` without an image counts, whatever its status. What the tool said is in `tool_errors`",
    "incomplete_message": "a message of the output is marked incomplete, although the job is called completed",
    "truncated": "cut off, although the job is called completed: the service gives a reason for it, or the output has as many tokens as the cap of the response allows, else that of the row",
    "partial_output": "there is output next to an error: the result is what was done until then",
    "classified_by_text": "only the text of the error's message told what kind of error it is",
    "unknown_status": "the service used a status word that is in no table; the job was polled on",
    "id_changed": "the response to a poll had another id than the job's, and no other row of the batch has that id",
    "shared_job": "the service gave one job to several rows with the same body, as its profile says that it may (`repeats_ids`)",
    "body_not_strict_json": "the response is not strict JSON (NaN, lone surrogates, depth, a byte order mark): the record has an escaped copy",
    "artifact_unreadable": "a string that should be a file is not base64; it stays in the record",
    "artifact_not_stored": "a file could not be written; the result is in the record unchanged",
    "artifact_kept": "an earlier run left a file of a result that the service no longer has; its path follows",
    "after_deadline": "the result was received after `--deadline` and is kept",
    "late_completed": "cancelled, and the service completed it all the same: the result was dropped, its usage is counted",
    "submit_unanswered": "cancelled while its POST had no response: a job may exist on the service",
    "field_overridden": "a field of the row (`background`, `stream`) is set by batchrun: the row's own value was not sent",
    "duplicate_key": "said by the check: a key occurs twice in one object of the row, and the last one counts",
    "unknown_body_field": "said by the check, once for each field: the endpoint is not known to have a field of the row, which is sent as it is. It may be one of the service's own (`top_k`), or a column that was never meant for it",
    "odd_prompt": "said by the check: `prompt` is not text, or is text where the endpoint wants another field; it is sent as it is",
}
"""By their words. A detail may follow a word after a colon, and the name of a field precedes `_overridden`."""


def meaning_of_warning(warning: str) -> str | None:
    """What a warning as it is in a record says; None where it is not one."""
    word = warning.strip().partition(":")[0]
    return WARNINGS.get("field_overridden" if word.endswith("_overridden") else word)
