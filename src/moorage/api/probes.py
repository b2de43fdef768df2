"""What monitoring asks, on a listener of its own: /metrics, /healthz and /readyz.

Prometheus has no Keystone tokens, so the way in is the protection: it listens on loopback
unless its operator says otherwise. It tells counts and never a name, an id or a reason of a
tenant's. It is there from before the API listens until after it has stopped, and also in a
process that has no API.
"""

from __future__ import annotations

import msgspec
from starlette.types import Receive, Scope, Send

from moorage.api.readiness import Readiness
from moorage.metrics.census import Page

_JSON = b"application/json"
_TEXT = b"text/plain; charset=utf-8"


class Probes:
    """The ASGI application."""

    def __init__(self, page: Page, readiness: Readiness) -> None:
        self._page = page
        self._readiness = readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        if scope["type"] != "http":
            return
        status, kind, body = await self._answer(scope)
        length = b"%d" % len(body)
        headers = [(b"content-type", kind), (b"content-length", length)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope) -> tuple[int, bytes, bytes]:
        if scope["method"] not in {"GET", "HEAD"}:
            return 405, _TEXT, b"only GET\n"
        match scope["path"]:
            case "/metrics":
                accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
                kind, page = await self._page.render(accept)
                return 200, kind.encode(), page
            case "/healthz":
                return 200, _JSON, b'{"status":"ok"}'
            case "/readyz":
                status, body = await readiness_body(self._readiness)
                return status, _JSON, msgspec.json.encode(body)
            case _:
                return 404, _TEXT, b"here are /metrics, /healthz and /readyz\n"


async def readiness_body(readiness: Readiness) -> tuple[int, dict[str, object]]:
    """Status and body of /readyz, here and on the API's port."""
    report = await readiness.look()
    parts = [
        {"name": name, "ok": reason is None, "reason": reason}
        for name, reason in report.parts.items()
    ]
    if report.ready:
        return 200, {"status": "ready", "parts": parts}
    return 503, {"status": "not ready", "parts": parts}
