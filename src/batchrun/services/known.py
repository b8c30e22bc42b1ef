"""The services that batchrun knows by name."""

from __future__ import annotations

from dataclasses import replace

from batchrun.core.rows.prepare import RESPONSES, SYNCHRONOUS
from batchrun.services.profile import API_KEY_HEADER, Call, Profile

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

# LiteLLM, vLLM, OGX, llama.cpp and all others that speak OpenAI's protocol.
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
