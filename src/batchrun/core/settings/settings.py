"""The settings that command, environment and Python share.

A field's metadata has all that the command needs to offer it: its group, its help, and how its value is
written. The environment variable of each is ``BATCHRUN_`` and its name in capitals.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from hashlib import blake2b
from typing import Any, NoReturn, Self

from batchrun.core.taxonomy.rules import DEFAULT_RETRIES
from batchrun.core.text.readable import (
    Option,
    Part,
    Text,
    as_given,
    parts,
    read_seconds,
    value_shown,
    without_keys,
    worded,
)

# --- Refusals, in parts: what is concerned, what is wrong with it, and what to do. Whoever shows one words it ---


class Refusal(Exception):
    """Something cannot be used; `about` is an option, a variable or a path. `str` is the command's wording."""

    def __init__(self, problem: Text, remedy: Text = "", about: Option | str | None = None) -> None:
        problem, remedy = _without_keys(problem), _without_keys(remedy)
        about = without_keys(about) if isinstance(about, str) else about
        super().__init__(problem, remedy, about)
        self.problem: Text = problem if about is None else (about, ": ", *parts(problem))
        self.remedy = remedy
        self.about = about

    @property
    def text(self) -> tuple[Part, ...]:
        """All of it; a remedy that begins with a line feed stands on lines of its own."""
        remedy = parts(self.remedy)
        joint = "" if not self.remedy else ":" if str(remedy[0]).startswith("\n") else "; "
        return (*parts(self.problem), joint, *remedy)

    def worded(
        self,
        variables: Collection[str] = (),
        named: Callable[[Part], str] = str,
        typed: Callable[[Part], str] = str,
    ) -> str:
        """One string. What is wrong is `named` as it was given, by one of `variables` perhaps; the rest is to be `typed`."""
        known = len(parts(self.problem))
        problem = worded(as_given(self.text[:known], variables), named)
        return problem + worded(self.text[known:], typed)

    def __str__(self) -> str:
        return self.worded()


def _without_keys(text: Text) -> Text:
    """`text` without what looks like an API key: values are shown, and one may stand where none belongs."""
    cleaned = tuple(_part_without_keys(part) for part in parts(text))
    return cleaned if isinstance(text, tuple) else cleaned[0]


def _part_without_keys(part: Part) -> Part:
    match part:
        case str():
            return without_keys(part)
        case Option(name, str(value)):
            return Option(name, without_keys(value))
        case _:
            return part


class UsageError(Refusal, ValueError):
    """What the user set up cannot work: a flag, a variable or a file. Raised before anything is sent."""


# --- An API key that does not show itself ---
#
# A `Secret` cannot get into a log, a traceback, a pickle or an f-string: only `reveal()` returns the value, and
# only the code that puts it into a header calls it. A key with a line break or a stray character is refused
# at once, because later an HTTP library would quote the whole header in its error.


MAX_LENGTH = 16_384

SHORTEST_REDACTED = 12  # characters

PLACEHOLDERS = frozenset(
    "$api_key $openai_api_key ${openai_api_key} <api-key> <api_key> <azure-api-key> <key> <my-api-key> <openai-api-key> "
    "<openai_api_key> <secret> <token> <your-api-key> <your-key> <your-openai-api-key> <your-token> <your_api_key> "
    "<your_key> <your_openai_api_key> api-key api_key apikey change-me changeme dummy dummy-api-key "
    "dummy-key dummy_key empty example fake fake-api-key fake-key insert-api-key-here insert-your-api-key-here "
    "lm-studio local my-api-key my_api_key mykey no-key no-key-needed no-key-required none not-needed not-required "
    "not_needed null ollama openai-api-key openai_api_key placeholder replace-me replaceme sk-... sk-1234 "
    "sk-abc sk-abc123 sk-demo-needs-no-key sk-dummy sk-fake sk-local sk-my-api-key sk-no-key-required sk-placeholder "
    "sk-proj-... sk-proj-xxx sk-proj-xxxx sk-test sk-xxx sk-xxxx sk-xxxxxxxx sk-xxxxxxxxxxxx sk-your-api-key "
    "sk-your-api-key-here sk-your-key sk-your-key-here sk-your-openai-api-key test-api-key test-key test_key "
    "todo unused xxx xxxx xxxxxxxx your-api-key your-api-key-here your-azure-api-key "
    "your-azure-openai-api-key your-key your-key-here your-openai-api-key your-openai-key your-secret-key your-token "
    "your_api_key your_api_key_here your_azure_api_key your_azure_openai_api_key your_key your_key_here "
    "your_openai_api_key your_openai_key your_proxyapi_key your_token yourapikey".split()
)
"""What documentation has in place of an API key, in small letters."""


class Secret:
    """The value of an API key or token; `source` is where it came from and may be shown."""

    __slots__ = ("_value", "source")

    def __init__(self, value: str, source: Option | str) -> None:
        if fault := _fault(value):
            raise UsageError(f"expected an API key of printable ASCII characters, {fault}", "set it again", source)
        self._value = value
        self.source = source

    def reveal(self) -> str:
        return self._value

    def fingerprint(self, salt: bytes) -> str:
        """The same for the same value and `salt`; the value cannot be derived from it."""
        return blake2b(self._value.encode(), key=salt[:64], digest_size=16).hexdigest()

    @property
    def is_searched_for(self) -> bool:
        """Whether results are searched for it, to redact it.

        Short keys of local servers (EMPTY, dummy) and placeholders occur in ordinary text: redacting them would change
        paid results. Keys that protect anything are longer.
        """
        return len(self._value) >= SHORTEST_REDACTED and not self.is_placeholder

    @property
    def is_placeholder(self) -> bool:
        """Whether it was copied from documentation, or is for a server that takes any key: it protects nothing."""
        return self._value.lower() in PLACEHOLDERS

    def __repr__(self) -> str:
        return f"<secret from {self.source}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is never pickled")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


class SecretHeaders(dict[str, str]):
    """The headers of a request, whose repr shows the names only: values may be secret."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<headers {', '.join(self)}>"


def _fault(value: str) -> str | None:
    if not value:
        return "it is empty"
    if len(value) > MAX_LENGTH:
        return f"it has {len(value):,}, more than {MAX_LENGTH:,}"
    for position, char in enumerate(value, 1):
        if not "!" <= char <= "~":
            kind = {"\n": "a line break", "\r": "a line break", " ": "a space"}.get(char, "another character")
            return f"but character {position} of {len(value)} is {kind}"
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return "but it is in quotes"
    return None


LONGEST_GAP = 300.0
"""No gap between two polls of a job is longer, in seconds, where the user does not say so: services keep a result for as
little as ten minutes."""
LONGEST_POLL_MAX = 1_800.0
"""No gap that the user may ask for is longer, in seconds."""


@dataclass(frozen=True, slots=True)
class Lag:
    """The mean time from a job's end to its record: seconds, or a share of the mean duration."""

    value: float
    is_share: bool = False


def read_lag(text: str) -> Lag:
    """``10%`` or ``2s``."""
    share = text.strip().removesuffix("%")
    if share == text.strip():
        seconds = read_seconds(text)
        if not seconds > 0:
            raise ValueError(f"expected a share or a time above 0, got {value_shown(text)}")
        return Lag(seconds)
    try:
        value = float(share) / 100
    except ValueError:
        value = 0.0
    if not 0.001 <= value <= 1:
        raise ValueError(f"expected a share from 0.1% to 100%, or a time, got {value_shown(text)}")
    return Lag(value, is_share=True)


class SettingKind(Enum):
    """How the value of a setting is written."""

    TEXT = "text"
    TEXTS = "text, may be repeated"
    COUNT = "a whole number"
    NUMBER = "a number"
    SECONDS = "a time: 90, 90s, 5m, 24h"
    BYTES = "a size: 1000, 64MiB"
    SWITCH = "yes or no"
    LAG = "a share or a time: 10%, 2s"
    STATES = "states, with commas between"


class FlagGroup(Enum):
    """The groups of the command's help, in order."""

    SERVICE = "service"
    INPUT = "input"
    LIMITS = "limits"
    POLLING = "polling"
    TIMEOUTS = "timeouts and retries"
    STOPPING = "interrupt, cancel and detach"
    RESUMING = "resuming"
    OUTPUT = "output"


def _setting(
    default: Any, group: FlagGroup, kind: SettingKind, help: str, *, former: str | None = None  # noqa: A002 - what it is
) -> Any:  # fmt: skip
    """A field of `Settings`; `former` is the setting's earlier name, which still works and is not shown."""
    return field(default=default, metadata={"group": group, "kind": kind, "help": help, "former": former})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a batch is run. Times are seconds, sizes bytes, rates per minute or as named."""

    # fmt: off
    service: str | None = _setting(None, FlagGroup.SERVICE, SettingKind.TEXT, "openai, azure, proxyapi, compatible, or a TOML file with a profile")
    base_url: str | None = _setting(None, FlagGroup.SERVICE, SettingKind.TEXT, "address of the service, up to and with /v1")
    allow_http: bool = _setting(False, FlagGroup.SERVICE, SettingKind.SWITCH, "allow a base URL without TLS that is not on this machine")
    key_file: str | None = _setting(None, FlagGroup.SERVICE, SettingKind.TEXT, "read the API key from this file (mode 0600), not from the environment")
    token_command: str | None = _setting(None, FlagGroup.SERVICE, SettingKind.TEXT, "a command that prints a bearer token; run again when it expires")
    transport: str = _setting("own", FlagGroup.SERVICE, SettingKind.TEXT, "HTTP transport: own or httpx; behind HTTPS_PROXY always httpx", former="wire")

    model: str | None = _setting(None, FlagGroup.INPUT, SettingKind.TEXT, "model of the rows that name none")
    set: tuple[str, ...] = _setting((), FlagGroup.INPUT, SettingKind.TEXTS, "set a field in the body of every row")
    skip_bad: bool = _setting(False, FlagGroup.INPUT, SettingKind.SWITCH, "write bad rows as `rejected` and run the others")
    max_row: int = _setting(32 << 20, FlagGroup.INPUT, SettingKind.BYTES, "longest line")
    limit: int | None = _setting(None, FlagGroup.INPUT, SettingKind.COUNT, "run so many rows now and leave the others to the next run")

    concurrency: int = _setting(500, FlagGroup.LIMITS, SettingKind.COUNT, "jobs in flight (64 where all rows end at the submit)")
    submits: int = _setting(32, FlagGroup.LIMITS, SettingKind.COUNT, "POSTs in flight: at most so many rows are unconfirmed after a crash (as --concurrency where all rows end at the submit)")
    rpm: float | None = _setting(None, FlagGroup.LIMITS, SettingKind.NUMBER, "submits per minute, spread evenly")
    tpm: float | None = _setting(None, FlagGroup.LIMITS, SettingKind.NUMBER, "tokens per minute, estimated, then corrected by the service's count")
    rate: str = _setting("adaptive", FlagGroup.LIMITS, SettingKind.TEXT, "adaptive: learn how much the service bears, below --rpm and --tpm; fixed: those alone")
    connections: int = _setting(1_000, FlagGroup.LIMITS, SettingKind.COUNT, "open connections at most; only as many as needed are opened")

    pacing: str = _setting("learned", FlagGroup.POLLING, SettingKind.TEXT, "when jobs are polled: learned from how long they take, or backoff")
    lag: str = _setting("10%", FlagGroup.POLLING, SettingKind.LAG, "mean time from a job's end to its record: a share of the mean duration of jobs, or a time")
    poll_rate: float = _setting(500.0, FlagGroup.POLLING, SettingKind.NUMBER, "polls per second, for all jobs together")
    poll_min: float = _setting(0.25, FlagGroup.POLLING, SettingKind.SECONDS, "shortest gap between two polls of a job (with --pacing backoff the first one, 1s; it grows by half each time)")
    poll_max: float = _setting(300.0, FlagGroup.POLLING, SettingKind.SECONDS, "longest gap between two polls of a job (with --pacing backoff 30s); above 5m, up to 30m, only where results are kept longer than that")

    retries: int = _setting(DEFAULT_RETRIES, FlagGroup.TIMEOUTS, SettingKind.COUNT, "retries per row at most, each a new paid job; fewer for some codes")
    retry_budget: int | None = _setting(None, FlagGroup.TIMEOUTS, SettingKind.COUNT, "retries of the whole batch, then it halts (default: 100 + 25%% of the accepted jobs)")
    deadline: float = _setting(86_400.0, FlagGroup.TIMEOUTS, SettingKind.SECONDS, "longest time for a job; then it is polled once more and cancelled")
    max_wait: float | None = _setting(None, FlagGroup.TIMEOUTS, SettingKind.SECONDS, "longest time for this run; its jobs keep running and the next run collects them")
    connect_timeout: float = _setting(10.0, FlagGroup.TIMEOUTS, SettingKind.SECONDS, "to connect")
    submit_timeout: float = _setting(120.0, FlagGroup.TIMEOUTS, SettingKind.SECONDS, "for a POST that starts a background job")
    answer_timeout: float = _setting(600.0, FlagGroup.TIMEOUTS, SettingKind.SECONDS, "for a POST whose response is the result")
    poll_timeout: float = _setting(120.0, FlagGroup.TIMEOUTS, SettingKind.SECONDS, "for a poll")
    cancel_timeout: float = _setting(30.0, FlagGroup.TIMEOUTS, SettingKind.SECONDS, "for a cancel")
    keep_going: bool = _setting(False, FlagGroup.TIMEOUTS, SettingKind.SWITCH, "do not halt although every row so far was refused, or the first response has an unknown shape")

    drain: float = _setting(30.0, FlagGroup.STOPPING, SettingKind.SECONDS, "longest wait for POSTs in flight after the first Ctrl-C")
    cancel_on_interrupt: bool = _setting(False, FlagGroup.STOPPING, SettingKind.SWITCH, "at Ctrl-C cancel the jobs on the service; without it they keep running and the next run collects them")
    cancel_settle: float = _setting(10.0, FlagGroup.STOPPING, SettingKind.SECONDS, "time between a cancel and the final poll")
    cancel_patience: float = _setting(300.0, FlagGroup.STOPPING, SettingKind.SECONDS, "how long a job may keep running after a cancel before it is written as cancelled anyway")
    detach: bool = _setting(False, FlagGroup.STOPPING, SettingKind.SWITCH, "submit every row, poll none, and exit; the same command without it, or `collect`, collects the results")

    retry_failed: tuple[str, ...] | None = _setting(None, FlagGroup.RESUMING, SettingKind.STATES, "run rows again that ended in these states (without STATES: all that did not succeed); polls their old jobs before it pays for new ones")
    resubmit_unconfirmed: bool = _setting(False, FlagGroup.RESUMING, SettingKind.SWITCH, "send rows again whose response was lost; may pay twice")
    accept_changes: bool = _setting(False, FlagGroup.RESUMING, SettingKind.SWITCH, "continue with changed rows or flags; they apply only to rows not yet sent")
    fresh: bool = _setting(False, FlagGroup.RESUMING, SettingKind.SWITCH, "move the files of an earlier run aside and start again; pays again")
    new_journal: bool = _setting(False, FlagGroup.RESUMING, SettingKind.SWITCH, "continue without the journal; rows that are not in the output are sent again")
    repair: bool = _setting(False, FlagGroup.RESUMING, SettingKind.SWITCH, "leave the damaged lines out of journal and output and continue")
    write_off: bool = _setting(False, FlagGroup.RESUMING, SettingKind.SWITCH, "give up jobs that the service does not find, even if it finds none")

    artifacts: str | None = _setting(None, FlagGroup.OUTPUT, SettingKind.TEXT, "write results that are files (images) into this folder; the records then hold their paths instead of base64")
    max_body: int = _setting(64 << 20, FlagGroup.OUTPUT, SettingKind.BYTES, "largest response that is accepted")
    max_memory: int = _setting(256 << 20, FlagGroup.OUTPUT, SettingKind.BYTES, "responses and records in memory together; above it reading waits")
    # fmt: on

    def __post_init__(self) -> None:
        for name in _ABOVE_ZERO:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise _error(name, "a number above 0", value)
        for name in _ZERO_OR_MORE:
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise _error(name, "0 or more", value)
        if self.transport not in TRANSPORTS:
            raise _error("transport", " or ".join(TRANSPORTS), self.transport)
        if self.pacing not in PACINGS:
            raise _error("pacing", " or ".join(PACINGS), self.pacing)
        try:
            read_lag(self.lag)
        except ValueError as error:
            raise UsageError(str(error), about=Option("lag")) from error
        if self.rate not in RATES:
            raise _error("rate", " or ".join(RATES), self.rate)
        if self.poll_max > LONGEST_POLL_MAX:
            raise _error("poll_max", f"at most {LONGEST_POLL_MAX:.0f} s", self.poll_max)
        if self.poll_min > self.poll_max:
            raise UsageError(
                ("expected at most ", Option("poll_max"), f" ({self.poll_max:g}), got {self.poll_min!r}"),
                ("lower it, or raise ", Option("poll_max")),
                about=Option("poll_min"),
            )

    @property
    def max_jobs(self) -> int:
        """Most jobs in flight: no more than --poll-rate can poll once in LONGEST_GAP seconds.

        Some services forget a result after ten minutes; a paid one must not be fetched too late.
        """
        return max(1, min(self.concurrency, int(self.poll_rate * LONGEST_GAP)))

    @classmethod
    def of(cls, values: Mapping[str, Any], *, at_once: bool = False) -> Settings:
        """The settings in `values`, and the defaults; `at_once` where every row ends at its submit."""
        unknown = values.keys() - {one.name for one in fields(cls)}
        if unknown:
            raise UsageError(f"unknown setting {min(unknown)!r}")
        settings = dict(values)
        if at_once:
            settings.setdefault("concurrency", AT_ONCE_CONCURRENCY)
            settings.setdefault("submits", settings["concurrency"])
        if settings.get("pacing") == "backoff":
            settings.setdefault("poll_min", min(BACKOFF_MIN, settings.get("poll_max", BACKOFF_MIN)))
            settings.setdefault("poll_max", max(BACKOFF_MAX, settings["poll_min"]))
        return cls(**settings)


AT_ONCE_CONCURRENCY = 64
TRANSPORTS = ("own", "httpx")
PACINGS = ("learned", "backoff")
BACKOFF_MIN, BACKOFF_MAX = 1.0, 30.0
"""The gaps of a backoff, where none are given."""
ADAPTIVE, FIXED = RATES = ("adaptive", "fixed")
_ABOVE_ZERO = (
    "concurrency", "submits", "poll_min", "poll_max", "poll_rate", "connections", "deadline", "max_row", "max_body", "max_memory",
    "connect_timeout", "submit_timeout", "answer_timeout", "poll_timeout", "cancel_timeout", "rpm", "tpm", "max_wait", "limit",
)  # fmt: skip
_ZERO_OR_MORE = ("retries", "retry_budget", "drain", "cancel_settle", "cancel_patience")


def _error(name: str, expected: Text, actual: object) -> UsageError:
    return UsageError(("expected ", *parts(expected), f", got {actual!r}"), about=Option(name))
