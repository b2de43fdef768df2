"""No token, no further. A route that someone forgets to think about needs one too."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.api.context import context_in
from moorage.model.errors import Unauthenticated
from moorage.model.ports import TokenValidator

PUBLIC = frozenset({"/", "/v1", "/healthz", "/readyz"})
"""Versions and health: all that anyone may read."""


class Authentication:
    """Makes the caller of the `X-Auth-Token`, before anything else of the request is read."""

    def __init__(self, app: ASGIApp, *, validator: TokenValidator) -> None:
        self._app = app
        self._validator = validator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in PUBLIC:
            token = next((v for name, v in scope["headers"] if name == b"x-auth-token"), b"")
            if not token:
                raise Unauthenticated("This needs a token of Keystone's, in X-Auth-Token.")
            caller = await self._validator.validate(token.decode("latin-1"))
            context_in(scope).caller = caller
        await self._app(scope, receive, send)
