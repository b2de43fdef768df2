"""No token, no further. A route that someone forgets to think about needs one too."""

from __future__ import annotations

import dataclasses

from moorage.api.context import CHANGING, Context
from moorage.model.errors import Unauthenticated
from moorage.model.ports import TokenValidator

PUBLIC = frozenset({"/", "/v1", "/healthz", "/readyz"})
"""Versions and health: all that anyone may read."""


async def authenticate(asked: Context, validator: TokenValidator) -> None:
    """Find the caller by the `X-Auth-Token`, before anything else of the request is read.

    Raises Unauthenticated, or what the validator raises.
    """
    token = asked.headers.get(b"x-auth-token")
    if not token:
        raise Unauthenticated("This needs a token of Keystone's, in X-Auth-Token.")
    caller = await validator.validate(token.decode("latin-1"), asked.peer)
    if asked.method in CHANGING:
        caller = dataclasses.replace(caller, request_id=asked.request_id)
    asked.caller = caller
