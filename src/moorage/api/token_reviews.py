"""What API servers of clusters ask, on a listener of its own: is this token good?

`POST /clusters/{uuid}/token-reviews` with a TokenReview of authentication.k8s.io/v1 answers with
one. https://kubernetes.io/docs/reference/access-authn-authz/authentication/#webhook-token-authentication

What must stay true:

- Who asks comes first: before its credential is known to be its cluster's own, nothing of the
  body is read, and each address has so many tries.
- No token and no credential reaches the log, an answer, or an error.
- Where an answer can't be had, an `error` says so, which no API server keeps; HTTP's own way
  (503, 429) would have it try again for a long time while its client waits. A token that is
  refused has no `error`, for that is what an API server keeps: a program that brings one
  without end asks us every ten seconds.
"""

from __future__ import annotations

import re
import time
from typing import Any

import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from moorage.api.errors import TooMany
from moorage.api.rates import Rates
from moorage.api.strangers import Strangers
from moorage.connections import peer_of
from moorage.metrics.requests import NO_ROUTE, Limit, answered, turned_away
from moorage.model.errors import RetryLater, Unauthenticated
from moorage.model.sign_in import path_of
from moorage.services import SignInService
from moorage.services.engine_users import EngineUser
from moorage.services.sign_in import Asker

MOST_BODY = 16 * 1024
"""Bytes. A token has at most 4,096 characters."""
RATE, BURST = 20.0, 100
"""Tokens a second that one cluster may ask about, and so many at once."""
STRANGERS_RATE, STRANGERS_BURST = 20.0, 200
"""Lookups of a cluster's credential, by address: each costs the store a read."""
VERSION, KIND = "authentication.k8s.io/v1", "TokenReview"
ROUTE = path_of("{uuid}")

_PATH = re.compile(path_of("([0-9a-f-]{36})"))
_log = structlog.get_logger("moorage.api")


class _Spec(msgspec.Struct):
    token: str


class _Review(msgspec.Struct):
    apiVersion: str  # noqa: N815 -- Kubernetes' own name
    kind: str
    spec: _Spec


class _Refusal(Exception):
    """Ends the request with this status and sentence."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class TokenReviews:
    """The ASGI application."""

    def __init__(
        self,
        service: SignInService,
        *,
        rates: Rates | None = None,
        lookups: Rates | None = None,
    ) -> None:
        self._service = service
        self._rates = rates or Rates(RATE, BURST)
        self._lookups = lookups or Rates(STRANGERS_RATE, STRANGERS_BURST)
        self._told = Strangers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        peer = peer_of(scope["client"][0]) if scope.get("client") else ""
        asker: Asker | None = None
        close, route = False, NO_ROUTE
        try:
            asker = await self._asker(scope, peer)
            route = ROUTE
            status, value = 200, await self._answer(asker, receive)
        except TooMany:
            # Its next question costs it a handshake, which are bounded too (`acceptor`).
            turned_away(Limit.RATE)
            status, close = 200, True
            value = _status(None, "Too many tokens are brought to this cluster.")
        except _Refusal as refusal:
            # What is left of the body is not read.
            status, close = refusal.status, True
            value = {"error": refusal.reason}
        except Exception as bug:
            _log.error("bug", path=ROUTE, exc_info=bug)
            status, close = 500, True
            value = {"error": "Moorage failed; its log has the cause."}
        await _send(send, status, value, close=close)
        took = time.perf_counter() - began
        answered("POST" if scope["method"] == "POST" else "GET", route, status, took)
        self._tell(asker.cluster if asker else None, peer, status, value, took)

    async def _asker(self, scope: Scope, peer: str) -> Asker:
        """Raises _Refusal for whoever is no cluster's own API server."""
        named = _PATH.fullmatch(scope["path"].rstrip("/"))
        if named is None:
            raise _Refusal(404, "There is nothing here.")
        if scope["method"] != "POST":
            raise _Refusal(405, "Only POST.")
        given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        kind, _, credential = given.partition(" ")
        if kind.lower() != "bearer" or not credential:
            raise _Refusal(401, "Only a cluster's own API servers may ask here.")
        if (known := self._service.known(named[1], credential)) is not None:
            return known
        try:
            self._lookups.take(peer)
            return await self._service.find(named[1], credential)
        except Unauthenticated as refused:
            raise _Refusal(401, refused.reason) from None
        except TooMany:
            turned_away(Limit.RATE)
            raise _Refusal(429, "Too many credentials were tried from this address.") from None
        except RetryLater as later:
            raise _Refusal(503, later.reason) from None

    async def _answer(self, asker: Asker, receive: Receive) -> dict[str, Any]:
        """Raises _Refusal for what is no review; TooMany."""
        body = await _body(receive)
        self._rates.take(asker.cluster)
        review = _decoded(body)
        try:
            user = await self._service.review(asker, review.spec.token)
        except RetryLater as later:
            return _status(None, later.reason)
        return _status(user)

    def _tell(
        self, cluster: str | None, peer: str, status: int, value: dict[str, Any], took: float
    ) -> None:
        """A line in the log; one a second of each cluster and stranger."""
        untold = self._told.untold(cluster or peer)
        if untold is None:
            return
        more: dict[str, Any] = {"untold": untold} if untold else {}
        if status == 200:
            more |= {
                "authenticated": value["status"]["authenticated"],
                "user": value["status"].get("user", {}).get("username"),
            }
            if "error" in value["status"]:
                more["reason"] = value["status"]["error"]
        ms = round(took * 1000, 2)
        _log.info("token review", cluster=cluster, client=peer, status=status, ms=ms, **more)


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Refusal(400, "The request ended before its body.")
        body += message.get("body", b"")
        if len(body) > MOST_BODY:
            raise _Refusal(413, f"A body may have {MOST_BODY} bytes.")
        if not message.get("more_body", False):
            return bytes(body)


def _decoded(body: bytes) -> _Review:
    """What is wrong is not said in the decoder's words: they may quote what was sent."""
    try:
        review = msgspec.json.decode(body, type=_Review)
    except (ValueError, RecursionError):
        raise _Refusal(400, f"The body is no {KIND}.") from None
    if (review.apiVersion, review.kind) != (VERSION, KIND):
        raise _Refusal(400, f"The body must be a {KIND} of {VERSION}.")
    return review


def _status(user: EngineUser | None, error: str = "") -> dict[str, Any]:
    status: dict[str, Any] = {"authenticated": user is not None}
    if user is not None:
        status["user"] = {"username": user.name, "groups": [user.group]}
    if error:
        status["error"] = error
    return {"apiVersion": VERSION, "kind": KIND, "status": status}


async def _send(send: Send, status: int, value: dict[str, Any], *, close: bool) -> None:
    body = msgspec.json.encode(value)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *([(b"connection", b"close")] if close else []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
