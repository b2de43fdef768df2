"""One request, from outside in: this is the ASGI application.

    id, version       Context, versions: in every answer, whatever it is
    token             authentication: only `PUBLIC` paths pass without one
    route             routing: 404, 405; 406 where the version has no such route
    rate              rates: 429 where the project asks for too many changes
    body              limits: JSON, not too large, not too deep; then the route's own schema
    handler           routes/ -> services
    audit             what came of a request that meant to change something
    answer, one line in the log, and the metrics

All of it is one call, and each header is looked at once: middlewares around each other,
each with its own wrapper of `send`, took longer than the handlers.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import structlog
from starlette.types import Receive, Scope, Send
from structlog.contextvars import STRUCTLOG_KEY_PREFIX

from moorage.api import audit, errors, versions
from moorage.api.answers import Answer
from moorage.api.authentication import PUBLIC, authenticate
from moorage.api.context import CHANGING, Context
from moorage.api.limits import NOTHING, check_url, read_json
from moorage.api.rates import Rates
from moorage.api.routing import Route, Routes
from moorage.api.strangers import Strangers
from moorage.metrics.requests import Limit, answered, turned_away
from moorage.model.errors import Invalid, MoorageError
from moorage.model.ports import TokenValidator
from moorage.services import AuditService

QUIET = frozenset({"/healthz", "/readyz"})
"""Asked every few seconds by machines; not logged where all is well."""

MOST_PATH, MOST_METHOD = 200, 20
"""Characters of each in the log: whoever asks chooses them."""

_REQUEST_ID: ContextVar[str] = ContextVar(f"{STRUCTLOG_KEY_PREFIX}request_id")
"""As `bind_contextvars` would make it, which takes ten times as long to set it."""


class Api:
    """Gives each request an id, an answer to every error, and one line in the log.

    The line has method, path, status, time, id, project and the cluster's uuid, and the id that
    an OpenStack service gave it; never another header, a query or a body. `trust_proxy`: a
    proxy in front sets the X-Forwarded headers, and no client can.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        validator: TokenValidator,
        audit: AuditService,
        identity_url: str,
        rates: Rates,
        trust_proxy: bool = False,
    ) -> None:
        self.routes = routes
        self._find = Routes(routes).find
        self._validator = validator
        self._audit = audit
        self._identity_url = identity_url
        self._rates = rates
        self._trust_proxy = trust_proxy
        self._strangers = Strangers()

    @functools.cached_property
    def _log(self) -> Any:
        """Bound at the first request: by then the log is configured, and binding takes time."""
        return structlog.get_logger("moorage.api").bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _turn_away(scope, receive, send)
            return
        started = time.perf_counter()
        asked = Context(scope, trust_proxy=self._trust_proxy)
        # All that is logged on its way has its id: a request has a context of its own (Listener).
        _REQUEST_ID.set(asked.request_id)
        try:
            answer = await self._answer(asked, receive)
        except Exception as error:
            answer = self._refusal(asked, error)
        await audit.record(self._audit, asked, answer)
        status = answer.status_code
        headers = [*answer.raw_headers, *asked.marks]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})
        took = time.perf_counter() - started
        answered(asked.method, asked.route, status, took)
        if status >= 400 or asked.path not in QUIET:
            self._tell(asked, status, took)

    def _tell(self, asked: Context, status: int, took: float) -> None:
        """Its line in the log; none for each of a stranger's many."""
        more: dict[str, Any] = {}
        if asked.caller is None:
            peer = asked.peer
            untold = self._strangers.untold(peer)
            if untold is None:
                return
            more["client"] = peer
            if untold:
                more["untold"] = untold
        if given := asked.global_request_id:
            more["global_request_id"] = given
        self._log.info(
            "request",
            method=asked.method[:MOST_METHOD],
            path=asked.path[:MOST_PATH],
            status=status,
            ms=round(took * 1000, 2),
            project=asked.caller.project_id if asked.caller else None,
            **more,
        )

    async def _answer(self, asked: Context, receive: Receive) -> Answer:
        version = self._version(asked)
        asked.answer_in(*version.within(versions.Bounds()))
        if asked.path not in PUBLIC:
            await authenticate(asked, self._validator)
        check_url(asked)
        route, names = self._find(asked.method, asked.path)
        asked.route = route.path
        asked.answer_in(*version.within(route.bounds))
        versions.refuse_outside(asked.minor, route.bounds, route.path)
        if asked.method not in CHANGING:
            return await route.handler(asked, **names)
        self._take_turn(asked)
        value = await read_json(asked, receive)
        if route.body is None:
            return await route.handler(asked, **names)
        if value is NOTHING:
            raise Invalid("the body is missing.")
        return await route.handler(asked, body=route.body.validate_python(value), **names)

    def _take_turn(self, asked: Context) -> None:
        """Raises TooMany where its project has had its share of changes for now."""
        try:
            self._rates.take(asked.who.project_id)
        except errors.TooMany:
            asked.turned_away = True
            turned_away(Limit.RATE)
            raise

    def _version(self, asked: Context) -> versions.Version:
        header = asked.headers.get(versions.HEADER)
        if header is None:
            return versions.DEFAULT
        try:
            return versions.asked_version(header)
        except errors.NotServed:
            asked.marks += versions.BOUNDS_HEADERS
            raise

    def _refusal(self, asked: Context, error: Exception) -> Answer:
        answer = errors.answer_to(error, asked.request_id, identity_url=self._identity_url)
        if answer.status_code == 500 and not isinstance(error, MoorageError):
            self._log.error("bug", path=asked.path[:MOST_PATH], exc_info=error)
        return answer


async def _turn_away(scope: Scope, receive: Receive, send: Send) -> None:
    """What is not HTTP: nothing is done at start and stop, and there is no WebSocket."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    while (message := await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    if message["type"] == "lifespan.shutdown":
        await send({"type": "lifespan.shutdown.complete"})
