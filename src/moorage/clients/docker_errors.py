"""What can go wrong with an engine: it gives no answer that could be believed, or an error."""

from __future__ import annotations

import os
import ssl

import aiohttp

from moorage.clients.docker_wire import plain
from moorage.model.errors import RetryLater


class Untrusted(aiohttp.ClientError):
    """An answer that no Docker Engine gives."""


class EngineSilent(RetryLater):
    """No answer that could be believed."""


class EngineRefused(RetryLater):
    """The engine answered with an error; `status` is HTTP's."""

    def __init__(self, reason: str, *, status: int) -> None:
        super().__init__(reason)
        self.status = status


def what_of(error: BaseException) -> str:
    """What happened to a connection, as the end of a sentence that begins with the engine."""
    cause = getattr(error, "os_error", None) or error.__cause__ or error
    what = f"can't be understood ({type(cause).__name__})"
    match cause:
        case Untrusted():
            what = str(cause)
        case ssl.SSLCertVerificationError():
            what = f"shows a certificate that is not its own: {plain(cause.verify_message, 100)}"
        case ssl.SSLError():
            what = f"broke off the TLS handshake: {plain(cause.reason or 'no reason', 100)}"
        case ConnectionRefusedError():
            what = "refused the connection"
        case aiohttp.ServerDisconnectedError() | ConnectionResetError() | BrokenPipeError():
            what = "closed the connection"
        case OSError() if cause.errno:
            what = f"can't be reached: {os.strerror(cause.errno)}"
    return what
