"""The outermost layer: an id for each request, one line in the log, an answer to every error."""

from __future__ import annotations

import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moorage.api import errors
from moorage.api.context import Context
from moorage.api.links import base_url
from moorage.model.errors import MoorageError

QUIET = frozenset({"/healthz", "/readyz"})
"""Asked every few seconds by machines; not logged where all is well."""

_log = structlog.get_logger("moorage.api")


class Requests:
    """Logs method, path, status, time, id and project; never a header, a query or a body."""

    def __init__(self, app: ASGIApp, *, identity_url: str, trust_proxy: bool) -> None:
        self._app = app
        self._identity_url = identity_url
        self._trust_proxy = trust_proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there is no WebSocket to be had without a token, or with
            await send({"type": "websocket.close", "code": 1008})
            return
        started = time.perf_counter()
        if len(scope["path"]) > 1:
            # magnumclient asks for /v1/clusters/?limit=1, and means /v1/clusters?limit=1
            scope["path"] = scope["path"].rstrip("/") or "/"
        context = Context(base_url=base_url(scope, trust_proxy=self._trust_proxy))
        context.headers.append((b"x-openstack-request-id", context.request_id.encode()))
        context.put(scope)
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *context.headers]
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        except Exception as error:
            if not isinstance(error, MoorageError):
                _log.exception("bug", request_id=context.request_id, path=scope["path"])
            if status:  # half an answer is out: the server must cut the connection
                raise
            answer = errors.response(error, context.request_id, identity_url=self._identity_url)
            await answer(scope, receive, send_marked)
        finally:
            if status >= 400 or scope["path"] not in QUIET:
                _log.info(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    ms=round((time.perf_counter() - started) * 1000, 2),
                    request_id=context.request_id,
                    project=context.caller.project_id if context.caller else None,
                )
