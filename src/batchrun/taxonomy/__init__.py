"""What an error means, for a response that you polled yourself: its exception, whether a retry is worth its price, advice.

    from batchrun import taxonomy

    verdict = taxonomy.classify(client.responses.retrieve("resp_123"))
    verdict.state, verdict.running, verdict.retryable, verdict.retries, verdict.advice

    taxonomy.raise_for_response(response)                  # batchrun.errors.RateLimitError, …
    taxonomy.raise_for_response(response, as_openai=True)  # openai.RateLimitError, …

A verdict is what a run of batchrun would have made of the same response: it is read by the same code and the same table.
The table has a `VERSION`; `batchrun help taxonomy` says what a version promises.

Importing this takes no longer than importing batchrun; what classifies is loaded with the first response.
"""

TYPE_CHECKING = False  # to type checkers it is True; importing `typing` takes longer than all else here
if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from batchrun.core.taxonomy.rules import TAXONOMY_VERSION as VERSION
    from batchrun.core.taxonomy.rules import Retry, Rule, State, StateGroup, WordField
    from batchrun.taxonomy.verdict import Verdict

__all__ = [
    "VERSION",
    "Retry",
    "Rule",
    "State",
    "StateGroup",
    "Verdict",
    "WordField",
    "classify",
    "raise_for_response",
    "rule",
    "rules",
    "states",
    "words",
]

_RULES = "batchrun.core.taxonomy.rules"
_HOMES = {
    "Retry": (_RULES, "Retry"),
    "Rule": (_RULES, "Rule"),
    "State": (_RULES, "State"),
    "StateGroup": (_RULES, "StateGroup"),
    "VERSION": (_RULES, "TAXONOMY_VERSION"),
    "Verdict": ("batchrun.taxonomy.verdict", "Verdict"),
    "WordField": (_RULES, "WordField"),
}


def classify(response: object, *, service: "str | PathLike[str] | None" = None) -> "Verdict":
    """What `response` says of a job, as a run of batchrun would judge it.

    `response` is an object of an SDK (a Response, a ChatCompletion, …), an exception of an SDK, a dict, JSON as bytes or
    text, or a response of httpx or requests. It may be that of a poll, or of a submit where its request, or a result
    without a status, shows that it is one. Bytes, text and dicts count as responses with HTTP status 200.

    `service` is needed where a service has its own field names or status words: the path of its profile, FILE.toml.

    Raises TypeError for what is not a response, and `batchrun.errors.SettingsError` for an unusable `service`.
    """
    from batchrun.taxonomy.judging import judged_response

    return judged_response(response, service)


def raise_for_response(
    response: object, *, as_openai: bool = False, service: "str | PathLike[str] | None" = None
) -> None:
    """Raise the exception of a response that shows neither a success nor a job that is still running.

    It returns for both of these; `classify(response).running` says which it is. A poll that failed raises, and says
    nothing of the job, which may be running: poll again. Arguments are those of `classify`.

    The exception is a `batchrun.errors.JobError`, or with `as_openai` the installed openai SDK's own (where `response` is
    one already, that one). Raises ImportError where openai is not installed.
    """
    from batchrun.taxonomy.judging import raise_for

    raise_for(response, service, as_openai=as_openai)


def rules() -> "tuple[Rule, ...]":
    """The rules of the table; for a word that occurs in several fields there is one for each."""
    from batchrun.core.taxonomy.rules import TAXONOMY

    return TAXONOMY


def rule(code: str | int) -> "Rule | None":
    """The rule of an error code; or of a type, a reason, an HTTP status, a status word. None for a word that has none."""
    from batchrun.core.taxonomy.explain import rules_of

    return next(iter(rules_of(str(code))), None)


def states() -> "Mapping[State, str]":
    """The states in which a job can end, each with its meaning."""
    from batchrun.core.taxonomy.rules import STATE_MEANING

    return dict(STATE_MEANING)


def words() -> "Mapping[str, StateGroup]":
    """The status words of services, normalised, each with its group."""
    from batchrun.core.taxonomy.rules import WORDS

    return dict(WORDS)


if not TYPE_CHECKING:  # a type checker knows each name, and no others

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name not in _HOMES:
            raise AttributeError(f"module 'batchrun.taxonomy' has no attribute {name!r}")
        module, attribute = _HOMES[name]
        found = globals()[name] = getattr(import_module(module), attribute)
        return found


def __dir__() -> list[str]:
    return sorted(__all__)
