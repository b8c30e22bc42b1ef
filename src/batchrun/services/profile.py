"""A profile: all that makes one service differ from another, as data; and the services that batchrun knows by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from batchrun.core.responses.verdict import NO_OVERRIDES, CodeOverrides
from batchrun.core.rows.parse import RESPONSES, SYNCHRONOUS, Endpoint
from batchrun.services.field_map import FieldMap
from batchrun.services.idempotency import Idempotency


@dataclass(frozen=True, slots=True)
class Auth:
    """The header that carries the API key, and the prefix of its value."""

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
    """One service. The first of its `endpoints` is used where a row names none.

    `key_names` are environment variables for the API key, the first that is set counts, and `token_names`
    those for a bearer token, which outranks a key. `path` is what the service appends to
    the address that users give. A service that `repeats_ids` answers equal requests with one job. One with `idempotency`
    answers a POST with the same key with the same job. `timeouts` are settings by name, in seconds; settings of the user outrank them.
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
    overrides: CodeOverrides = NO_OVERRIDES
    timeouts: Mapping[str, float] = field(default_factory=dict)
    field_map: FieldMap | None = None
    repeats_ids: bool = False
    idempotency: Idempotency | None = None


OPENAI = Profile(
    name="openai",
    endpoints=(RESPONSES, *SYNCHRONOUS),
    poll=Call("GET", "/responses/"),
    cancel=Call("POST", "/responses/", "/cancel"),
    base_url="https://api.openai.com/v1",
    base_name="OPENAI_BASE_URL",
    key_names=("OPENAI_API_KEY",),
    sends_organisation=True,
)

# LiteLLM, vLLM, OGX, llama.cpp and all others with OpenAI's protocol.
COMPATIBLE = replace(OPENAI, name="compatible", base_url=None)

# The v1 API takes no api-version; a dated one is refused there (pydantic-ai#5066).
AZURE = Profile(
    name="azure",
    endpoints=OPENAI.endpoints,
    poll=OPENAI.poll,
    cancel=OPENAI.cancel,
    base_name="AZURE_OPENAI_ENDPOINT",
    path="/openai/v1",
    auth=API_KEY_HEADER,
    key_names=("AZURE_OPENAI_API_KEY",),
    token_names=("AZURE_OPENAI_AD_TOKEN",),
)

PROXYAPI = Profile(
    name="proxyapi",
    endpoints=OPENAI.endpoints,
    poll=OPENAI.poll,
    cancel=OPENAI.cancel,
    base_url="https://api.proxyapi.ru/openai/v1",
    key_names=("PROXYAPI_API_KEY", "OPENAI_API_KEY"),
)

KNOWN: dict[str, Profile] = {profile.name: profile for profile in (OPENAI, AZURE, PROXYAPI, COMPATIBLE)}
