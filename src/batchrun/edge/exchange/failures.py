"""Why an exchange failed, and how that is worded."""

from __future__ import annotations

import os
import socket
import ssl

from batchrun.core.responses.http import Cause


class ExchangeError(Exception):
    """Why an exchange cannot be completed; it becomes a Failure where the exchange ends."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


def why_no_connection(error: BaseException) -> tuple[Cause, str]:
    """The cause beneath an error of connecting, and what to say of it."""
    if type(error).__name__ == "ConnectTimeout":
        return Cause.CONNECT, "no connection in time"
    beneath: BaseException | None = error
    while beneath is not None:
        if isinstance(beneath, ssl.SSLCertVerificationError):
            return Cause.TLS, f"the certificate is refused: {beneath.verify_message}"
        if isinstance(beneath, ssl.SSLError):
            return Cause.TLS, f"no TLS connection: {beneath.reason or beneath}"
        if isinstance(beneath, socket.gaierror):
            return Cause.DNS, f"the host's name was not found: {beneath.strerror}"
        if isinstance(beneath, OSError) and beneath.errno:
            return Cause.CONNECT, f"no connection: {os.strerror(beneath.errno).lower()}"
        if isinstance(beneath, BaseExceptionGroup):  # an address each; the first is the one that was wanted most
            beneath = beneath.exceptions[0]
        else:
            beneath = beneath.__cause__ or beneath.__context__
    if type(error).__name__ == "ProxyError":
        return Cause.CONNECT, f"the proxy refused to connect: {error}"
    return Cause.CONNECT, f"no connection: {str(error) or 'the other side hung up'}"
