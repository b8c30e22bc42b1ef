"""What to answer to the name of an option that does not exist: the command and Python share it.

1. The names that other tools use are known, and answered by name.
2. Otherwise only a near spelling is suggested, or a name that begins so.
3. Nothing is ever suggested that can pay twice, give something up or lose it (`SUGGESTED_NEVER`): whoever asks for
   `--resume` or `--refresh` must not be led to `--fresh`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from batchrun.core.text.readable import Option, Text

SUGGESTED_NEVER = frozenset(
    {
        "fresh", "new_journal", "repair", "write_off", "retry_failed", "resubmit_unconfirmed", "accept_changes",
        "keep_going", "allow_http", "cancel_on_interrupt",
    }
)  # fmt: skip
_NEAR = 0.8
_BEGINNING = 3  # letters

_RESUME: Text = "leave it out: with the same input and output a batch resumes"
_CONCURRENCY: Text = ("write ", Option("concurrency", "64"))
_TIMEOUT: Text = (
    "write ", Option("deadline", "2h"), " (a job), ", Option("max_wait", "8h"), " (the run) or ",
    Option("submit_timeout", "60s"), " (a POST)",
)  # fmt: skip
_KEY: Text = ("set OPENAI_API_KEY, or write ", Option("key_file", "key.txt"), " or ", Option("token_command"))
_ADDRESS: Text = ("write ", Option("base_url", "https://api.example.com/v1"))
_RATE: Text = ("write ", Option("rpm", "600"), ", in submits per minute")
_OVERWRITE: Text = "leave it out to resume, or name another output to start over"

OTHER_TOOLS: dict[str, Text] = {
    "resume": _RESUME,
    "continue": _RESUME,
    "resume_from": _RESUME,
    "force": _OVERWRITE,
    "overwrite": _OVERWRITE,
    "restart": _OVERWRITE,
    "refresh": _OVERWRITE,
    "workers": _CONCURRENCY,
    "num_workers": _CONCURRENCY,
    "max_workers": _CONCURRENCY,
    "threads": _CONCURRENCY,
    "parallel": _CONCURRENCY,
    "parallelism": _CONCURRENCY,
    "jobs": _CONCURRENCY,
    "max_jobs": _CONCURRENCY,
    "max_concurrency": _CONCURRENCY,
    "max_concurrent": _CONCURRENCY,
    "max_concurrent_requests": _CONCURRENCY,
    "timeout": _TIMEOUT,
    "request_timeout": _TIMEOUT,
    "api_key": _KEY,
    "key": _KEY,
    "token": _KEY,
    "url": _ADDRESS,
    "host": _ADDRESS,
    "api_base": _ADDRESS,
    "endpoint": ('a row names its own, as in "url": "/v1/chat/completions"; the service is ', Option("base_url")),
    "max_retries": ("write ", Option("retries", "4")),
    "num_retries": ("write ", Option("retries", "4")),
    "max_attempts": ("write ", Option("retries", "4"), ", which does not count the first attempt"),
    "max_rpm": _RATE,
    "max_requests_per_minute": _RATE,
    "requests_per_minute": _RATE,
    "rate_limit": _RATE,
    "qps": _RATE,
    "rps": _RATE,
    "max_tpm": ("write ", Option("tpm", "200000")),
    "max_tokens_per_minute": ("write ", Option("tpm", "200000")),
    "poll_interval": ("write ", Option("poll_min", "2s"), " and ", Option("poll_max", "10s")),
}  # fmt: skip


def answer(name: str, known: Iterable[str], body_fields: Collection[str] = ()) -> Text | None:
    """What to write instead of the option `name`, spelled as in Python; None where nothing safe is near.

    `known` are the names that exist, `body_fields` those that a body may have.
    """
    known = list(known)
    if name in OTHER_TOOLS:
        return OTHER_TOOLS[name]
    if name in body_fields:
        return "it is a field of the body: write ", Option("set", f"{name}=VALUE")
    safe = [one for one in known if one not in SUGGESTED_NEVER]
    near = difflib.get_close_matches(name, safe, n=1, cutoff=_NEAR)
    if not near and len(name) >= _BEGINNING:
        begun = [one for one in known if one.startswith(name)]
        near = begun if len(begun) == 1 and begun[0] in safe else []
    return ("did you mean ", Option(near[0]), "?") if near else None
