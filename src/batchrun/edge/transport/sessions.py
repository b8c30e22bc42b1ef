"""TLS sessions kept for the next connection: a handshake that resumes one costs half, and a round trip less in TLS 1.2.

asyncio and uvloop have no place for a session where a connection is made; both ask the context for the TLS
object, so the context puts it in. A session is the context's own: what was verified when it began was verified by
the same authorities and for the same name.
"""

from __future__ import annotations

import ssl
from typing import Any

MOST = 256  # names


class Remembering(ssl.SSLContext):
    """A context that offers the last session of a name to the next connection there."""

    _sessions: dict[str, ssl.SSLSession]

    @classmethod
    def made_of(cls, context: ssl.SSLContext) -> Remembering:
        """`context` itself, which remembers from now on."""
        context.__class__ = cls
        assert isinstance(context, cls)
        context._sessions = {}  # noqa: SLF001 - its own
        return context

    def remember(self, name: str, tls: ssl.SSLObject | None) -> None:
        """Keep the session of `tls`, whose peer has said all that belongs to it."""
        if tls is not None and (session := tls.session) is not None and session.has_ticket:
            if len(self._sessions) >= MOST:
                self._sessions.clear()
            self._sessions[name] = session

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - ssl's signature
        server_hostname: Any = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        known = session or self._sessions.get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, known)
