"""A profile: all that makes one service differ from another, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batchrun.core.responses.verdict import NO_VOUCHING, Vouching
from batchrun.core.rows.prepare import Endpoint
from batchrun.services.field_map import FieldMap

NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Auth:
    """How an API key travels: in which header, after which word."""

    header: str = "authorization"
    prefix: str = "Bearer "


BEARER = Auth()
API_KEY_HEADER = Auth("api-key", "")


@dataclass(frozen=True, slots=True)
class Call:
    """A request about a job: its method, and its path on either side of the id."""

    method: str
    before: str
    after: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """One service. The first of its `endpoints` is meant where a row names none.

    `key_names` are environment variables that may hold the API key, the first that is set counts, and
    `token_names` likewise for a bearer token, which outranks a key. `path` is what the service appends to
    the address that its users know. `known_as` are other first parts of a path under which rows may name
    an endpoint. `timeouts` are settings by name, in seconds; what a user gives outranks them.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    poll: Call | None
    cancel: Call | None
    base_url: str | None = None
    base_name: str = ""
    path: str = ""
    auth: Auth = BEARER
    key_names: tuple[str, ...] = ()
    token_names: tuple[str, ...] = ()
    key_required: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    sends_organisation: bool = False
    vouching: Vouching = NO_VOUCHING
    timeouts: Mapping[str, float] = field(default_factory=dict)
    lens: FieldMap | None = None
    known_as: tuple[str, ...] = ("/openai/v1", "/v1")
