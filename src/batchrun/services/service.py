"""A service at one address with one API key: it builds requests and reads responses.

A service is a value; a renewed token makes another one (``with_key``). Polls are frequent, so their headers and paths are
built once and shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from batchrun.core.responses import verdict
from batchrun.core.responses.http import Answer, Failure, Request
from batchrun.core.responses.verdict import is_safe_id
from batchrun.core.settings.settings import Secret, SecretHeaders, UsageError
from batchrun.services.address import BaseUrl, is_secret
from batchrun.services.profile import Auth, Call, Profile
from batchrun.version import __version__

_OURS = {"accept": "application/json", "user-agent": f"batchrun/{__version__}"}


class Service:
    """Builds requests to `base` as `profile` says, with `key` (None where none is needed).

    `key_renews` marks a key that changes during the run: it cannot be recognised by its fingerprint.
    """

    def __init__(
        self,
        profile: Profile,
        base: BaseUrl,
        key: Secret | None,
        headers: Mapping[str, str] | None = None,
        *,
        auth: Auth | None = None,
        key_renews: bool = False,
    ) -> None:
        self.profile = profile
        self.base = base
        self.key = key
        self.key_renews = key_renews
        self._auth = auth or profile.auth
        _expect_no_collision(profile, headers or {}, self._auth)
        self._extra = SecretHeaders({**profile.headers, **(headers or {})})
        secret = {} if key is None else {self._auth.header: self._auth.prefix + key.reveal()}
        self._headers = SecretHeaders({**_OURS, **self._extra, **secret})
        self._submit_headers = SecretHeaders({**self._headers, "content-type": "application/json"})
        self._endpoints = {endpoint.path: endpoint for endpoint in profile.endpoints}
        self._poll = self._call(profile.poll)
        self._cancel = self._call(profile.cancel)

    @property
    def name(self) -> str:
        return self.profile.name

    @property
    def origin(self) -> str:
        """The only origin that requests are sent to, and the only one that sees the API key."""
        return self.base.origin

    @property
    def auth(self) -> Auth:
        """The header that carries the API key."""
        return self._auth

    @property
    def extra_headers(self) -> Mapping[str, str]:
        """Headers of the profile and of the user, sent with every request; their values may be secret."""
        return self._extra

    @property
    def can_cancel(self) -> bool:
        return self._cancel is not None

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What must never be shown: the API key, and the values of headers whose names suggest a secret."""
        named = [
            Secret(value, f"header {name}")
            for name, value in self._extra.items()
            if value and is_secret(name) and value.isprintable() and " " not in value and value.isascii()
        ]
        return tuple(named) if self.key is None else (self.key, *named)

    def with_key(self, key: Secret) -> Service:
        """The same service with a renewed key."""
        return Service(self.profile, self.base, key, self._extra, auth=self._auth, key_renews=self.key_renews)

    def identity(self) -> dict[str, str | None]:
        """What a journal's header stores of a service, so that a later run cannot use another one by mistake."""
        return {
            "service": self.name,
            "origin": self.origin,
            "path": self.base.path,
            "organisation": self._extra.get("openai-organization"),
            "project": self._extra.get("openai-project"),
        }

    def key_fingerprint(self, salt: bytes) -> str | None:
        """Recognises the API key without disclosing it; None without a key, or if it is renewed."""
        return None if self.key is None or self.key_renews else self.key.fingerprint(salt)

    def submit(self, path: str, body: bytes, idempotency_key: str | None = None) -> Request:
        """A POST of `body` to the endpoint with this `path`; with its key, where the service honours such keys."""
        headers, idempotency = self._submit_headers, self.profile.idempotency
        if idempotency is not None and idempotency_key is not None:
            headers = SecretHeaders({**headers, idempotency.header: idempotency_key})
        return Request("POST", self.base.path + self._endpoints[path].path, headers, body)

    def poll(self, job_id: str) -> Request:
        return self._about(self._poll, job_id)

    def cancel(self, job_id: str) -> Request:
        """Cancel a job; only where `can_cancel`."""
        return self._about(self._cancel, job_id)

    def read_submit(
        self, answer: Answer | Failure, wall: float, path: str
    ) -> verdict.Accepted | verdict.Refused | verdict.Ambiguous:
        profile, endpoint = self.profile, self._endpoints[path]
        found = verdict.read_submit(
            answer,
            wall,
            background=endpoint.background,
            queues=endpoint.queues,
            result=endpoint.result,
            overrides=profile.overrides,
            field_map=profile.field_map,
        )
        if isinstance(found, verdict.Ambiguous) and found.shape is not None:
            return replace(found, shape=replace(found.shape, path=path))
        return found

    def read_poll(self, answer: Answer | Failure, wall: float, job_id: str) -> verdict.JobReport | verdict.Unclear:
        return verdict.read_poll(answer, wall, job_id, self.profile.field_map)

    def read_dated_poll(
        self, answer: Answer | Failure, wall: float, job_id: str
    ) -> verdict.JobReport | verdict.Unclear:
        """As `read_poll`, with the service's clock."""
        return verdict.read_poll(answer, wall, job_id, self.profile.field_map, dated=True)

    def read_cancel(self, answer: Answer | Failure, wall: float, job_id: str) -> verdict.JobReport | verdict.Unclear:
        return verdict.read_cancel(answer, wall, job_id, self.profile.field_map)

    def __repr__(self) -> str:
        return f"<Service {self.name} at {self.base}>"

    def _call(self, call: Call | None) -> Call | None:
        return None if call is None else Call(call.method, self.base.path + call.before, call.after)

    def _about(self, call: Call | None, job_id: str) -> Request:
        if call is None:
            raise UsageError(
                f"{self.name} has no request for this; its endpoints end at the submit or cannot be cancelled"
            )
        if not is_safe_id(job_id):
            raise ValueError(f"expected a job id that can be part of a path, got {job_id[:100]!r}")
        return Request(call.method, f"{call.before}{job_id}{call.after}", self._headers)


def _expect_no_collision(profile: Profile, headers: Mapping[str, str], auth: Auth) -> None:
    """Refuse headers that would take the place of the idempotency key."""
    idempotency = profile.idempotency
    if idempotency is not None and idempotency.header in {*profile.headers, *headers, auth.header}:
        raise UsageError(
            f"the header {idempotency.header} carries the idempotency key of {profile.name}, and is set to something else",
            "leave it out of the other headers, or take [idempotency] out of the profile",
        )
