"""One line of the input: its row, or why it has none.

A row has one of three forms; a file may mix them:

    batch       {"custom_id": …, "method": "POST", "url": …, "body": {…}, "metadata": {…}}
    bare        {"model": …, "input": …}     the row is the body; custom_id, method and url are taken out
    shorthand   {"prompt": "text"}           as bare, its prompt becomes `input`; metadata is taken out as well

Invariants:

1. No bytes make this raise. A bad row is a value, a `Rejection`, with a code of the taxonomy.
2. A row chooses fields of its body and one of the service's paths. Never a host, a header or an API key.
3. A row key depends on the row alone, not on flags, line numbers or other rows. The source distinguishes
   equal rows by counting them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b
from typing import Any, NamedTuple, final

import orjson

from batchrun.core.responses.outcome import ResultForm
from batchrun.core.settings.settings import UsageError
from batchrun.core.text.json_text import Fault, edited, members, read_refused, values
from batchrun.core.text.readable import Option, Text, read_seconds, visible

# --- What is sent for a row: the path it goes to, and its body with our fields in it ---
#
# Ours are `background` and `stream`: batchrun submits and polls, so a row cannot choose them. `store` is set
# where the user left it out, because a service may keep an unstored result for ten minutes only. `--model` fills rows
# that name none. `--set` sets a field in every row.


_OURS = frozenset({"background", "stream", "stream_options"})
_PREFIX = re.compile(r"(?:(?:/openai)?/v1)?(?=/)")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path of the service under its base URL, to which rows are POSTed.

    With `background` the response names a job; without, it is the result. Of a row's body, `ours` are fields that
    we always set, `default` those that the row may set itself, `dropped` those that are removed unless they are false.
    `result` is the form by which a result without a status is known. With `queues` it may be a job all the same, which is
    then polled where those in the background are.
    """

    path: str
    background: bool = False
    queues: bool = False
    result: ResultForm | None = None
    ours: Mapping[str, Any] = field(default_factory=dict)
    default: Mapping[str, Any] = field(default_factory=dict)
    dropped: tuple[str, ...] = ("background", "stream", "stream_options")


RESPONSES = Endpoint(
    "/responses",
    background=True,
    result="output",
    ours={"background": True},
    default={"store": True},
    dropped=("stream", "stream_options"),
)
SYNCHRONOUS = (
    Endpoint("/chat/completions", result="choices"),
    Endpoint("/embeddings", result="embeddings"),
    Endpoint("/images/generations", result="images"),
)
ENDPOINTS = (RESPONSES, *SYNCHRONOUS)


def plain_path(path: str) -> str:
    """`path` without the prefixes under which services offer the same: `/v1`, `/openai/v1`, a last slash.

    >>> plain_path("/openai/v1/responses")
    '/responses'
    """
    return _PREFIX.sub("", path, count=1).rstrip("/") if path.startswith("/") else path


@dataclass(frozen=True, slots=True)
class BodyFlags:
    """The flags that enter bodies; a batch keeps those that it was started with. `settings` are names with JSON."""

    model: str | None = None
    settings: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def read(cls, model: str | None = None, settings: Iterable[str] = ()) -> BodyFlags:
        """The flags as they are typed, each setting `name=value`. Raises UsageError."""
        if model is not None and not model:
            raise UsageError("it is empty", "give a model", Option("model"))
        return cls(model, tuple(dict(map(_setting, settings)).items()))

    def to_dict(self) -> dict[str, Any]:
        """As the journal's header keeps them."""
        return {"model": self.model, "set": {name: value.decode() for name, value in self.settings}}


NO_FLAGS = BodyFlags()


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is sent: `body` is JSON in bytes. `warnings` go to the record."""

    path: str
    body: bytes
    warnings: tuple[str, ...] = ()

    def hash(self) -> int:
        """64 bits that are the same for equal requests, and never 0; the row's key is no part of them."""
        digest = blake2b(self.path.encode() + b"\0" + self.body, digest_size=8).digest()
        return int.from_bytes(digest, signed=True) or 1


def prepared(endpoint: Endpoint, text: bytes, body: Mapping[str, Any], flags: BodyFlags) -> Prepared:
    """`text`, which is the object `body`, with the fields that batchrun and the flags set."""
    put = dict(flags.settings)
    if flags.model is not None and "model" not in put and not body.get("model"):
        put["model"] = orjson.dumps(flags.model)
    for name, value in endpoint.ours.items():
        if name not in body or body[name] is not value:
            put[name] = orjson.dumps(value)
    for name, value in endpoint.default.items():
        if body.get(name) is None and name not in put:
            put[name] = orjson.dumps(value)
    drop = tuple(name for name in endpoint.dropped if name in body and _unwanted(name, body[name]))
    return Prepared(endpoint.path, edited(text, put, drop, body.keys()), overridden(endpoint, body))


def overridden(endpoint: Endpoint, body: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields of the row that will not be sent as written, as warnings."""
    ours = [name for name, value in endpoint.ours.items() if body.get(name) is not None and body[name] != value]
    gone = [name for name in endpoint.dropped if name != "stream_options" and _unwanted(name, body.get(name))]
    return tuple(f"{name}_overridden" for name in (*ours, *gone)) if ours or gone else ()


def _unwanted(name: str, value: Any) -> bool:
    if name == "background":
        return value is True  # an image's background is a colour
    return value is not None and value is not False


def _setting(text: str) -> tuple[str, bytes]:
    name, equals, value = text.partition("=")
    shown = visible(text, 60)
    if not equals or not name:
        raise UsageError(
            ("expected ", Option("set", "name=value"), f", got {shown!r}"),
            ("write ", Option("set", "temperature=0.2")),
        )
    if name in _OURS:
        raise UsageError(
            (Option("set", visible(name, 60)), " is refused: batchrun itself decides how a job is run and polled")
        )
    if "." in name:
        first, rest = name.split(".", 1)
        nested = Option("set", visible(f"'{first}={{\"{rest}\": …}}'", 84))
        raise UsageError(
            (Option("set"), f" sets whole fields of the body, got {visible(name, 60)!r}"), ("write ", nested)
        )
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError:
        return name, orjson.dumps(value)  # a bare word is a string
    if name == "model" and (not isinstance(parsed, str) or not parsed):
        raise UsageError(("expected ", Option("set", "model=NAME"), f", got {shown!r}: a model is a string"))
    return name, value.strip().encode()


MAX_CUSTOM_ID = 1_024  # bytes
_SURELY_SHORT = MAX_CUSTOM_ID // 4  # characters
_LEAST_INTEGER, _LARGEST_INTEGER = -(1 << 63), (1 << 64) - 1  # what orjson reads as an integer; a custom_id may be one
_BATCH_FIELDS = frozenset({"custom_id", "method", "url", "body", "metadata"})
_CONTENT = ("input", "messages", "prompt")
_TOKEN_CAPS = ("max_output_tokens", "max_completion_tokens", "max_tokens")
_FOREIGN = frozenset(
    {"headers", "extra_headers", "api_key", "api-key", "apikey", "authorization", "base_url", "api_base"}
)
WINDOW_IN, _WINDOW = "background_options", "completion_window"
"""Where a row says within how much time its job may end, for a lower price: ``{"completion_window": "2h"}``."""
_KINDS = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number", bool: "a boolean"}


class Form(Enum):
    """How a row is written; the value names the fields that are ours and no part of the body."""

    BATCH = _BATCH_FIELDS
    BARE = frozenset({"custom_id", "method", "url"})
    SHORTHAND = frozenset({"custom_id", "method", "url", "metadata"})


_BATCH, _BARE = Form.BATCH, Form.BARE  # looked up once: a member of an enum costs as much as a dict


@final
class Admitted(NamedTuple):
    """A row that can be sent. `value` is the whole row as parsed and `body` its body, which for a bare row is
    the whole: to be inspected, not sent.
    """

    custom_id: str | None
    endpoint: Endpoint
    model: str
    form: Form
    value: dict[str, Any]
    body: dict[str, Any]


@final
class Rejection(NamedTuple):
    """Why a line is not a row: a code of the taxonomy, a message, and the row's own id if it is valid."""

    code: str
    message: Text
    custom_id: str | None = None


class RowParser:
    """Parses lines with the flags of a batch, for the paths of a service; the first endpoint is the default."""

    __slots__ = ("_by_path", "_chat", "_default", "_model", "_set_caps", "_set_model", "_set_window", "flags", "known")

    def __init__(self, flags: BodyFlags = NO_FLAGS, endpoints: Iterable[Endpoint] = ENDPOINTS) -> None:
        self.flags = flags
        self._by_path = {plain_path(one.path): one for one in endpoints}
        self.known = tuple(self._by_path)
        self._default = next(iter(self._by_path.values()))
        self._chat = self._by_path.get("/chat/completions", self._default)
        self._by_path |= {f"/v1{path}": one for path, one in self._by_path.items()}  # the usual spelling
        settings = dict(flags.settings)
        self._set_caps = {name: orjson.loads(settings[name]) for name in _TOKEN_CAPS if name in settings}
        self._set_window = {WINDOW_IN: orjson.loads(settings[WINDOW_IN])} if WINDOW_IN in settings else {}
        set_model = settings.get("model")
        self._set_model = None if set_model is None else orjson.loads(set_model)
        self._model = flags.model

    def admit(self, line: bytes) -> Admitted | Rejection:
        """The row on `line`, or why there is none."""
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            row = read_refused(line)
            if isinstance(row, Fault):
                return Rejection(row.code, row.message)
        if type(row) is not dict:
            return Rejection("not_an_object", f"expected one JSON object, got {kind_of(row)}")
        custom_id = row.get("custom_id")
        if custom_id is not None and not (type(custom_id) is str and 0 < len(custom_id) <= _SURELY_SHORT):
            if type(custom_id) is int and _LEAST_INTEGER <= custom_id <= _LARGEST_INTEGER:
                custom_id = str(custom_id)
            elif (wrong := _wrong_id(custom_id)) is not None:
                return Rejection("invalid_custom_id", wrong)
        if "body" in row:
            form, body = _BATCH, row["body"]
            if not _BATCH_FIELDS.issuperset(row):
                return Rejection("unknown_field", _unknown(row), custom_id)
            if type(body) is not dict or not body:
                return Rejection("no_body", f"body must be an object with fields, got {kind_of(body)}", custom_id)
        else:
            form, body = _BARE, row
            if row.get("input") is None and row.get("messages") is None and row.get("prompt") is None:
                return Rejection("no_body", _empty(row), custom_id)
        if not _FOREIGN.isdisjoint(body):
            return Rejection("unknown_field", _foreign(body), custom_id)
        if row.get("method") not in ("POST", None):
            method = _short(row["method"])
            return Rejection("invalid_method", f"expected method POST, got {method}: leave it out", custom_id)
        url = row.get("url")
        if url is None:
            is_chat = "messages" in body and body["messages"] is not None and body.get("input") is None
            endpoint = self._chat if is_chat else self._default
        elif type(url) is not str or (found := self._by_path.get(url) or self._by_path.get(plain_path(url))) is None:
            return Rejection("unknown_url", self._unknown_url(url), custom_id)
        else:
            endpoint = found
        if form is _BARE and _is_shorthand(row, endpoint):
            form = Form.SHORTHAND
        if "metadata" in row and form is not _BARE and type(row["metadata"]) not in (dict, type(None)):
            message = f"metadata must be an object, got {kind_of(row['metadata'])}"
            return Rejection("unknown_field", message, custom_id)
        model = self._set_model or body.get("model") or self._model
        if type(model) is not str:
            problem = "no model in the row" if model is None else f"model must be a string, got {kind_of(model)}"
            return Rejection(
                "no_model", (f"{problem}: add one there, or for all rows with ", Option("model")), custom_id
            )
        # Admitted(…) in a third of the time: this is half of the check's time
        return tuple.__new__(Admitted, (custom_id, endpoint, model, form, row, body))

    def prepare(self, row: Admitted, line: bytes) -> Prepared:
        """What is sent for `row`, which is on `line`."""
        if row.form is Form.BATCH:
            return prepared(row.endpoint, values(line, "body")["body"], row.body, self.flags)
        body = {name: value for name, value in row.value.items() if name not in row.form.value}
        if row.form is Form.SHORTHAND:
            body["input"] = body.pop("prompt")
        elif len(body) == len(row.value):
            return prepared(row.endpoint, line.strip(), body, self.flags)
        return prepared(row.endpoint, _without(line, row.form), body, self.flags)

    def may_cap(self, fields: Iterable[str]) -> bool:
        """Whether rows whose bodies have these fields may have a cap of output tokens."""
        return bool(self._set_caps) or any(name in _TOKEN_CAPS for name in fields)

    def token_cap(self, body: Mapping[str, Any]) -> int:
        """The cap of output tokens that is sent for a row with that body; 0 where there is none."""
        if self._set_caps:
            body = {**body, **self._set_caps}
        cap = body.get("max_output_tokens") or body.get("max_completion_tokens") or body.get("max_tokens")
        return cap if type(cap) is int and cap > 0 else 0

    def window(self, body: Mapping[str, Any]) -> float:
        """Within how many seconds the job of a row with that body may end, as it asks for; 0 where it asks for nothing."""
        options = (self._set_window or body).get(WINDOW_IN)
        window = options.get(_WINDOW) if isinstance(options, dict) else None
        try:
            return read_seconds(window) if isinstance(window, str) else 0.0
        except ValueError:  # `soonest`
            return 0.0

    def _unknown_url(self, url: Any) -> Text:
        known = ", ".join(self.known)
        if isinstance(url, str) and "://" in url:
            said = f"expected a path of the service ({known}), got {_short(url)}: the host is set by "
            return said, Option("base_url")
        return f"expected one of {known}, got {_short(url)}"


def metadata(row: Admitted, line: bytes) -> bytes | None:
    """The user's metadata as written, on one line; None where there is none."""
    if row.form is Form.BARE or not row.value.get("metadata"):
        return None
    return values(line, "metadata")["metadata"].replace(b"\r", b"")


def canonical(row: Any, option: int = orjson.OPT_SORT_KEYS) -> bytes:
    """JSON that is the same for equal rows, however they were written; numbers count as doubles.

    orjson does not write beyond 254 levels; `_written_deep` does. Without its `option` the keys keep their order.
    """
    try:
        return orjson.dumps(row, option=option)
    except orjson.JSONEncodeError:
        return _written_deep(row)


def content_key(text: bytes, of: str = "row") -> str:
    """The key of a row without a custom_id: `of` keeps the hashes of rows, raw lines and duplicate ids apart."""
    hashed = _HASHES[of].copy()  # twice as quick as a new one
    hashed.update(text)
    return "row-" + hashed.hexdigest()


_HASHES = {of: blake2b(digest_size=12, person=of.encode()) for of in ("row", "line", "id")}


def _written_deep(row: Any) -> bytes:
    # An explicit stack: recursion ends before orjson's own limit for reading does.
    parts: list[bytes] = []
    waiting: list[Any] = [row]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            parts.append(b"{")
            waiting.append(_END)
            for name in sorted(value, reverse=True):
                waiting += (value[name], name)
        elif isinstance(value, list):
            parts.append(b"[")
            waiting.append(_END)
            waiting += reversed(value)
        else:
            parts.append(b"}" if value is _END else orjson.dumps(value))
    return b",".join(parts)


_END = object()


def _without(line: bytes, form: Form) -> bytes:
    kept = []
    for one in members(line):
        if one.key in form.value or (form is Form.SHORTHAND and one.key == "input"):  # such an input was null
            continue
        if form is Form.SHORTHAND and one.key == "prompt":
            kept.append(b'"input":' + line[one.value : one.end])
        else:
            kept.append(line[one.start : one.end])
    return b"{" + b",".join(kept) + b"}"


def _is_shorthand(row: dict[str, Any], endpoint: Endpoint) -> bool:
    return type(row.get("prompt")) is str and row.get("input") is None and plain_path(endpoint.path) == "/responses"


def _wrong_id(custom_id: Any) -> str | None:
    if type(custom_id) is not str:
        whole = type(custom_id) is float and abs(custom_id) < 2**53 and custom_id == int(custom_id)
        remedy = f': write "{custom_id:.0f}"' if whole else ""
        return f"custom_id must be a string or an integer, got {kind_of(custom_id)}{remedy}"
    if not custom_id:
        return "custom_id is empty: give it a text, or leave it out"
    if (size := len(custom_id.encode())) > MAX_CUSTOM_ID:
        return f"expected a custom_id of at most {MAX_CUSTOM_ID:,} bytes, got {size:,}: {visible(custom_id, 40)!r}"
    return None


def _unknown(row: dict[str, Any]) -> str:
    name = min(row.keys() - _BATCH_FIELDS)
    return f"got {_short(name)} next to the body: only custom_id, method, url and metadata are allowed there"


def _foreign(body: dict[str, Any]) -> str:
    name = min(_FOREIGN & body.keys())
    return f"a row may not set {name!r}: headers, hosts and API keys come from the command and its environment"


def _empty(row: dict[str, Any]) -> str:
    fields = ", ".join(visible(name, 30) for name in list(row)[:6]) or "an empty object"
    return f"expected body, or one of {', '.join(_CONTENT)}; got {fields}"


def kind_of(value: Any) -> str:
    """What a value of JSON is called."""
    if value == {} and type(value) is dict:
        return "an empty object"
    return "null" if value is None else _KINDS.get(type(value), "something else")


def _short(value: Any) -> str:
    return repr(visible(value, 60)) if isinstance(value, str) else kind_of(value)


# --- Rough estimates of the tokens and bytes of a batch, before anything is paid ---
#
# No tokeniser is right for every model, and none is quick enough for ten million rows: four bytes a token is the usual
# rule of thumb for English, too high for pictures and escapes. Results count as 500 tokens where the row does not cap
# them lower. The sizes of records were measured on typical results; the text of a result is in its record twice.


BYTES_PER_TOKEN = 4
USUAL_RESULT = 500  # tokens
_RECORD = 2_200  # bytes of a record without the text of its result
_FIXED = {"/embeddings": 36_000, "/images/generations": 2_200_000}  # 1,536 floats; a PNG of 1024 × 1024 in base64


def result_tokens(token_cap: int) -> int:
    """Tokens of a result, if it is a usual one; `token_cap` is 0 where there is none."""
    return token_cap if 0 < token_cap < USUAL_RESULT else USUAL_RESULT


def input_tokens(size: int) -> int:
    """Tokens of rows that have `size` bytes together."""
    return round(size / BYTES_PER_TOKEN)


def roughly(tokens: int) -> int:
    """`tokens` to within 3%, so that rows of nearly the same size can share what is known of them."""
    shift = max(0, tokens.bit_length() - 5)
    return (tokens + (1 << shift >> 1)) >> shift << shift


def output_bytes(plain_path: str, rows: int, tokens: int) -> int:
    """Bytes of the records of `rows` rows whose results have `tokens` tokens together."""
    return rows * _RECORD + (rows * _FIXED[plain_path] if plain_path in _FIXED else 2 * BYTES_PER_TOKEN * tokens)
