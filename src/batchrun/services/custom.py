"""A user's own profile, from the table of a TOML file; `samples/profile.toml` explains every key.

Every key is checked; for an unknown one the nearest known one is suggested. Values of ``[auth]`` are never
shown: an API key pasted there by mistake must not end in a log.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from batchrun.core.responses.outcome import ResultForm
from batchrun.core.responses.verdict import CodeOverrides
from batchrun.core.rows.parse import Endpoint
from batchrun.core.settings.settings import UsageError
from batchrun.core.taxonomy.rules import normalise
from batchrun.core.text.readable import read_seconds
from batchrun.services.address import checked_headers, read_base_url
from batchrun.services.field_map import WORD_OF_GROUP, FieldMap, JsonPath, meaning_of
from batchrun.services.idempotency import LEAST_KEPT, MOST_KEPT, Idempotency
from batchrun.services.profile import Auth, Call, Profile

_ID = "{id}"
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/?{}-]*", re.ASCII)
_CALL = re.compile(r"(?:(GET|POST|PUT|DELETE) )?(/.*)", re.ASCII)
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,99}", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}", re.ASCII)
_PREFIX = re.compile(r"[A-Za-z0-9_-]{0,20} ?", re.ASCII)
_CODE = re.compile(r"http_[45][0-9][0-9]|[A-Za-z][A-Za-z0-9_.-]{0,99}", re.ASCII)
TIMEOUTS = {
    "background_submit": "submit_timeout",
    "synchronous_submit": "answer_timeout",
    "poll": "poll_timeout",
    "cancel": "cancel_timeout",
}
_KEYS = "name base_url repeats_ids endpoints auth headers idempotency read words vouches timeouts".split()


def read_profile(table: Mapping[str, Any], where: str) -> Profile:
    """The profile in `table`, which was read from `where`. Raises UsageError for everything that cannot work."""
    _known(table, _KEYS, where, "at the top")
    name = _text(table, "name", where, required=True)
    if _NAME.fullmatch(name) is None:
        raise UsageError(f"{where}: name: expected small letters, digits, - and _, got {name[:100]!r}")
    base_url = _text(table, "base_url", where) or None
    if base_url is not None:
        read_base_url(base_url, f"{where}: base_url", allow_http=True)  # choice decides whether http is allowed
    repeats_ids = table.get("repeats_ids", False)
    if not isinstance(repeats_ids, bool):
        raise UsageError(f"{where}: repeats_ids: expected true or false, got {repeats_ids!r}")
    read = _section(table, "read", where)
    endpoints, poll, cancel = _endpoints(_section(table, "endpoints", where), where, names_result="result" in read)
    auth, key_names, key_required = _auth(_section(table, "auth", where), where)
    headers = checked_headers(_section(table, "headers", where), f"{where}: [headers]")
    idempotency = None
    if "idempotency" in table:
        idempotency = _idempotency(_section(table, "idempotency", where), where, {*headers, auth.header})
    return Profile(
        name=name,
        endpoints=endpoints,
        poll=poll,
        cancel=cancel,
        base_url=base_url,
        auth=auth,
        key_names=key_names,
        key_required=key_required,
        headers=headers,
        overrides=_overrides(_section(table, "vouches", where), where),
        timeouts=_timeouts(_section(table, "timeouts", where), where),
        field_map=_field_map(read, _section(table, "words", where), where),
        repeats_ids=repeats_ids,
        idempotency=idempotency,
    )


def _endpoints(
    section: Mapping[str, Any], where: str, *, names_result: bool
) -> tuple[tuple[Endpoint, ...], Call | None, Call | None]:
    at = f"{where}: [endpoints]"
    _known(section, ["submit", "at_once", "queues", "poll", "cancel", "ours", "default"], where, "in [endpoints]")
    ours, default = section.get("ours", {}), section.get("default", {})
    if not isinstance(ours, Mapping) or not isinstance(default, Mapping):
        raise UsageError(f"{at}: expected tables for ours and default; write [endpoints.ours]")
    submit = _text(section, "submit", at)
    at_once, queues = _paths(section, "at_once", at), _paths(section, "queues", at)
    if others := [path for path in queues if path not in at_once]:
        raise UsageError(f"{at} queues: expected paths that at_once names too, got {others[0]!r}; name it there")
    result: ResultForm | None = "mapped" if names_result else None
    endpoints = [Endpoint(path, result=result, queues=path in queues) for path in at_once]
    if submit:
        endpoints.insert(
            0, Endpoint(_path(submit, f"{at} submit"), background=True, ours=ours, default=default, dropped=())
        )
    if not endpoints:
        raise UsageError(f"{at}: expected submit = {'/path'!r}, or at_once = [{'/path'!r}]; give one")
    if bool(submit or queues) != bool(section.get("poll")):
        raise UsageError(
            f"{at}: expected submit (or queues) and poll together; paths that respond with the result go into at_once"
        )
    poll = _call(section, "poll", "GET", at)
    return tuple(endpoints), poll, _call(section, "cancel", "POST", at)


def _paths(section: Mapping[str, Any], key: str, at: str) -> list[str]:
    paths = section.get(key, [])
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise UsageError(f"{at} {key}: expected a list of paths, got {paths!r}")
    return [_path(path, f"{at} {key}") for path in paths]


def _call(section: Mapping[str, Any], key: str, method: str, at: str) -> Call | None:
    text = _text(section, key, at)
    if not text:
        return None
    found = _CALL.fullmatch(text)
    path = _path(found[2] if found else text, f"{at} {key}", with_id=True)
    before, _, after = path.partition(_ID)
    return Call((found and found[1]) or method, before, after)


def _path(text: str, at: str, *, with_id: bool = False) -> str:
    expected = "a path from the base URL with {id} once, such as /jobs/{id}" if with_id else "a path such as /jobs"
    if not is_path(text, with_id=with_id):
        raise UsageError(f"{at}: expected {expected}, got {text[:200]!r}; write it in this form")
    return text


def is_path(text: str, *, with_id: bool) -> bool:
    """Whether `text` may be the path of an endpoint, or, `with_id`, of a request about a job."""
    parts = text.partition("?")[0].split("/")
    braces = text.replace(_ID, "", 1) if with_id else text
    return (
        _PATH.fullmatch(text) is not None
        and not {"", ".", ".."} & set(parts[1:])
        and (_ID in text) == with_id
        and not {"{", "}"} & set(braces)
        and text.count("?") <= 1
    )


def _auth(section: Mapping[str, Any], where: str) -> tuple[Auth, tuple[str, ...], bool]:
    at = f"{where}: [auth]"
    _known(section, ["env", "header", "prefix", "required"], where, "in [auth]")
    header = section.get("header", "authorization")
    if header not in ("authorization", "api-key"):
        if not isinstance(header, str):
            raise UsageError(f"{at} header: expected the name of a header")
        (header,) = checked_headers({header: ""}, f"{at} header")
    prefix = section.get("prefix", "Bearer " if header == "authorization" else "")
    if not isinstance(prefix, str) or _PREFIX.fullmatch(prefix) is None:
        raise UsageError(f"{at} prefix: expected a word such as {'Key '!r}, never the API key itself")
    env = section.get("env")
    if env is not None and (not isinstance(env, str) or _VARIABLE.fullmatch(env) is None):
        raise UsageError(
            f"{at} env: expected the name of an environment variable such as RENDER_API_KEY, never a key itself"
        )
    required = section.get("required", env is not None)
    if not isinstance(required, bool):
        raise UsageError(f"{at} required: expected true or false")
    if required and env is None:
        raise UsageError(f"{at}: expected env, the name of the environment variable that holds the API key")
    return Auth(header, prefix), (env,) if env else (), required


def _idempotency(section: Mapping[str, Any], where: str, others: Collection[str]) -> Idempotency:
    """The header of idempotency keys; `others` are set to something else."""
    at = f"{where}: [idempotency]"
    _known(section, ["header", "keeps"], where, "in [idempotency]")
    name = _text(section, "header", at, required=True)
    (header,) = checked_headers({name: ""}, f"{at} header")
    if header in others:
        raise UsageError(f"{at} header: {name} is set in [headers] or [auth] too; take it out of one of them")
    keeps = section.get("keeps")
    try:
        seconds = read_seconds(keeps) if isinstance(keeps, str) else 0.0
    except ValueError:
        seconds = 0.0
    if not LEAST_KEPT <= seconds <= MOST_KEPT:
        raise UsageError(
            f'{at} keeps: expected for how long the service keeps a key, 5m to 365d, such as "24h", got {keeps!r}'
        )
    return Idempotency(header, seconds)


def _field_map(read: Mapping[str, Any], words: Mapping[str, Any], where: str) -> FieldMap:
    keys = "id status result error error_code usage model".split()
    _known(read, keys, where, "in [read]")
    paths = {
        key: JsonPath(_text(read, key, f"{where}: [read]", required=True), f"{where}: [read] {key}") for key in read
    }
    for key in ("id", "status", "error", "usage", "model"):
        paths.setdefault(key, JsonPath(key, where))
    known: dict[str, str] = {}
    for word, meaning in words.items():
        stands_for = meaning_of(meaning) if isinstance(meaning, str) else None
        spelled = normalise(word)
        if stands_for is None or spelled is None:
            near = get_close_matches(str(meaning), WORD_OF_GROUP, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(map(repr, WORD_OF_GROUP))}"
            raise UsageError(
                f"{where}: [words] {word}: expected a group or a known status word, got {meaning!r}; {hint}"
            )
        known[spelled] = stands_for
    return FieldMap(**paths, words=known)


def _overrides(section: Mapping[str, Any], where: str) -> CodeOverrides:
    _known(section, ["nothing_created", "ambiguous"], where, "in [vouches]")
    names = {key: frozenset(_names(section[key], f"{where}: [vouches] {key}")) for key in section}
    return CodeOverrides(**names)


def _names(value: Any, at: str) -> Iterable[str]:
    if not isinstance(value, list):
        raise UsageError(f"{at}: expected a list of error codes or of http_4xx and http_5xx, got {value!r}")
    for name in value:
        if not isinstance(name, str) or _CODE.fullmatch(name) is None:
            raise UsageError(f"{at}: expected an error code such as queue_full, or http_503, got {name!r}")
        yield name


def _timeouts(section: Mapping[str, Any], where: str) -> dict[str, float]:
    """The settings that a profile sets, by name."""
    _known(section, TIMEOUTS, where, "in [timeouts]")
    for key, value in section.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 3600:
            raise UsageError(f"{where}: [timeouts] {key}: expected 1 to 3600 seconds, got {value!r}")
    return {TIMEOUTS[key]: float(value) for key, value in section.items()}


def _section(table: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    section = table.get(name, {})
    if not isinstance(section, Mapping):
        raise UsageError(f"{where}: {name}: expected a table; write [{name}] on a line of its own")
    return section


def _text(table: Mapping[str, Any], key: str, at: str, *, required: bool = False) -> str:
    value = table.get(key, "")
    if not isinstance(value, str) or (required and not value):
        raise UsageError(f'{at}: {key}: expected text, got {value!r}; write {key} = "…"')
    return value


def _known(table: Mapping[str, Any], keys: Iterable[str], where: str, path: str) -> None:
    keys = tuple(keys)
    for key in table:
        if key not in keys:
            near = get_close_matches(key, keys, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(keys)}"
            raise UsageError(f"{where}: unknown key {key[:100]!r} {path}; {hint}")
