"""Why an exchange failed, and how that is worded."""

from __future__ import annotations

import os
import socket
import ssl

from batchrun.core.responses.http import Cause


class ExchangeError(Exception):
    """Why an exchange cannot be completed; becomes a Failure where the exchange ends."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


def why_no_connection(error: BaseException) -> tuple[Cause, str]:
    """The root cause of a connection error, and its wording."""
    if type(error).__name__ == "ConnectTimeout":
        return Cause.CONNECT, "no connection in time"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Cause.TLS, f"the certificate is refused: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return Cause.TLS, f"no TLS connection: {cause.reason or cause}"
        if isinstance(cause, socket.gaierror):
            return Cause.DNS, f"the host's name was not found: {cause.strerror}"
        if isinstance(cause, OSError) and cause.errno:
            return Cause.CONNECT, f"no connection: {os.strerror(cause.errno).lower()}"
        # A group has one per address; the first address is the preferred one.
        cause = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause.__cause__ or cause.__context__
    if type(error).__name__ == "ProxyError":
        return Cause.CONNECT, f"the proxy refused to connect: {error}"
    return Cause.CONNECT, f"no connection: {str(error) or 'the other side hung up'}"
