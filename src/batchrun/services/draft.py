"""The profile that would read a response of no known shape, as TOML: what a user completes.

It is the profile in use, with what the response shows in place of what was expected. What one response cannot show
is in a line that begins with ``#``. `custom.read_profile` reads the text as it is: until it is completed a row
may have no result. What was guessed is marked so; where an endpoint answers at once the place of its result is such a
guess, since without one any object without an error would count as a result.

The batch can be resumed with it: name, address and account are those of the journal. No value that may be a secret is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from batchrun.core.responses.shape import UnknownShape
from batchrun.core.taxonomy.rules import StateGroup, group_of
from batchrun.services.address import is_secret
from batchrun.services.custom import TIMEOUTS, is_path
from batchrun.services.profile import Call, Profile
from batchrun.services.service import Service

_ID = "{id}"
_WIDTH = 80  # columns; a comment that does not fit is left out
_OTHER_FIELDS = ("error", "error_code", "usage", "model")


def draft_profile(service: Service, shape: UnknownShape) -> str:
    """The text of the file, in printable ASCII."""
    return "\n".join(_lines(service, shape)) + "\n"


def _lines(service: Service, shape: UnknownShape) -> Iterator[str]:
    profile = service.profile
    yield "# Complete the lines that begin with # as far as this service needs them;"
    yield "# samples/profile.toml of batchrun explains every key."
    yield _line("name", profile.name, "as this batch has it, so that it can be resumed")
    yield _line("base_url", str(service.base))
    yield from ("", "[endpoints]", *_endpoints(service, shape))
    submit = next((one for one in profile.endpoints if one.background), None)
    if submit is not None and _is_active(profile, shape, background=True):
        for name, fields in (("ours", submit.ours), ("default", submit.default)):
            if fields:
                yield from ("", f"[endpoints.{name}]", *(_line(key, value) for key, value in fields.items()))
    yield from ("", "[auth]", *_auth(service))
    if service.extra_headers:
        yield from ("", "[headers]", *_headers(service))
    yield from ("", "[read]", *_read(profile, shape))
    yield from ("", "[words]", *_words(profile, shape))
    overrides = {"nothing_created": profile.overrides.nothing_created, "ambiguous": profile.overrides.ambiguous}
    if any(overrides.values()):
        yield from ("", "[vouches]", *(_line(key, sorted(codes)) for key, codes in overrides.items() if codes))
    if profile.timeouts:
        keys = {setting: key for key, setting in TIMEOUTS.items()}
        yield from ("", "[timeouts]", *(_line(keys[name], value) for name, value in profile.timeouts.items()))


def _is_active(profile: Profile, shape: UnknownShape, *, background: bool) -> bool:
    """Whether the endpoints of a kind stand in the profile: of a built-in profile only those of the response's kind."""
    return profile.field_map is not None or shape.background == background


def _endpoints(service: Service, shape: UnknownShape) -> Iterator[str]:
    profile = service.profile
    own = profile.field_map is not None
    submit = next((one.path for one in profile.endpoints if one.background), None)
    at_once = [one.path for one in profile.endpoints if not one.background]
    queues = [one.path for one in profile.endpoints if one.queues]
    poll, why = _poll(service, shape)
    polled = bool(queues) or (submit is not None and _is_active(profile, shape, background=True))
    if submit is not None:
        active = _is_active(profile, shape, background=True)
        yield _line("submit", submit, "" if active else "if rows name this", active=active)
    if at_once:
        active = _is_active(profile, shape, background=False)
        yield _line("at_once", at_once, "" if active else "if rows name these", active=active)
    if not shape.background and shape.id is not None and not queues:
        yield _line("queues", [shape.path], "where this is a job, not a result", active=False)
        why = f"{why}; with queues"
    elif queues:
        yield _line("queues", queues)
    yield _line("poll", _spelled(poll, "GET"), why, active=polled)
    if not own:
        yield _line("cancel", f"{shape.path}/{_ID}/cancel", "if there is one", active=False)
    elif profile.cancel is not None:
        yield _line("cancel", _spelled(profile.cancel, "POST"), active=polled)


def _poll(service: Service, shape: UnknownShape) -> tuple[Call, str]:
    """Where a job is polled, and how that is known."""
    profile, base = service.profile, service.base
    if profile.field_map is not None and profile.poll is not None:
        return profile.poll, ""
    for name, url in sorted(shape.urls, key=lambda named: "status" not in named[0].lower()):
        at = url.removeprefix(base.origin)
        found = re.search(rf"(?<=[/=]){re.escape(shape.job_id or '')}(?=[/?&]|$)", at)
        if found is None or not at.startswith(f"{base.path}/") or "cancel" in (name + at).lower():
            continue
        before, after = at[len(base.path) : found.start()], at[found.end() :]
        if is_path(f"{before}{_ID}{after}", with_id=True):
            return Call("GET", before, after), f"as in {name}"
    return Call("GET", f"{shape.path}/"), "a guess"


def _auth(service: Service) -> Iterator[str]:
    profile, auth = service.profile, service.auth
    source = None if service.key is None else service.key.source
    names = (*profile.token_names, *profile.key_names)
    name = source if source in names else next(iter(profile.key_names), None)
    if isinstance(name, str):
        yield _line("env", name, "the variable of the API key")
    if auth.header != "authorization":
        yield _line("header", auth.header)
    if auth.prefix != ("Bearer " if auth.header == "authorization" else ""):
        yield _line("prefix", auth.prefix)
    if name is not None and not profile.key_required:
        yield _line("required", value=False)


def _headers(service: Service) -> Iterator[str]:
    for name, value in service.extra_headers.items():
        if is_secret(name) or any(secret.reveal() in value for secret in service.secrets):
            yield _line(name, "", "not shown here: it may be a secret", active=False)
        else:
            yield _line(name, value)


def _read(profile: Profile, shape: UnknownShape) -> Iterator[str]:
    known = profile.field_map
    if shape.id is not None:
        yield _line("id", shape.id, f"here {_shortened(shape.job_id)}")
    elif known is not None and known.id.text != "id":
        yield _line("id", known.id.text, "not in this response")
    else:
        yield _line("id", "data.id", "where the job's id is; not seen in this response", active=False)
    if known is not None and known.status.text != "status":
        yield _line("status", known.status.text)
    elif shape.word is not None:
        yield _line("status", shape.status, f"here {_shortened(shape.word)}")
    elif shape.has_other_status and shape.status != "status":
        yield _line("status", shape.status, "a guess; the status at the top is not the job's")
    else:
        yield _line("status", shape.status, "where a poll shows the job's status", active=False)
    if not shape.background and shape.result is not None:
        yield _line("result", shape.result, "a guess")
    elif known is not None and known.result is not None:
        yield _line("result", known.result.text)
    elif shape.background:
        yield _line("result", shape.beside_id("result"), "where a poll shows the result", active=False)
    else:  # never left out: any object would then be a result
        yield _line("result", "where.the.result.is")
    for name in _OTHER_FIELDS:
        path = None if known is None else getattr(known, name)
        if path is not None and path.text != name:
            yield _line(name, path.text)


def _words(profile: Profile, shape: UnknownShape) -> Iterator[str]:
    known = profile.field_map
    words = dict(known.words or {}) if known is not None else {}
    for word, meaning in words.items():
        yield _line(word, meaning)
    if shape.word is not None and group_of(shape.word) is StateGroup.UNKNOWN:
        yield _line(shape.word[:100], StateGroup.IN_PROGRESS.value, "if it means that", active=False)
    elif not words:
        yield _line("done", StateGroup.SUCCESS.value, "the service's own words for a status", active=False)


def _spelled(call: Call, method: str) -> str:
    path = f"{call.before}{_ID}{call.after}"
    return path if call.method == method else f"{call.method} {path}"


def _line(key: str, value: Any, why: str = "", *, active: bool = True) -> str:
    name = key if key and all(char.isascii() and (char.isalnum() or char in "_-") for char in key) else _toml(key)
    text = f"{'' if active else '# '}{name} = {_toml(value)}"
    return f"{text}  # {why}" if why and len(text) + len(why) <= _WIDTH - 4 else text


def _shortened(text: str | None) -> str:
    return _toml(text if text is None or len(text) <= 40 else f"{text[:40]}...")


def _toml(value: Any) -> str:
    """A value of a profile in TOML, in printable ASCII."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case Mapping():
            return "{" + ", ".join(f"{_toml(str(key))} = {_toml(inner)}" for key, inner in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case _:
            return '"' + "".join(map(_escaped, str(value))) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if " " <= char <= "~":
        return char
    if "\ud800" <= char <= "\udfff":
        return "\\uFFFD"  # half a character, which TOML cannot write
    return f"\\u{ord(char):04X}" if ord(char) < 0x10000 else f"\\U{ord(char):08X}"
