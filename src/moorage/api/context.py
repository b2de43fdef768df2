"""What is known of a request while it is served; the middlewares fill it in."""

from __future__ import annotations

import uuid
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from moorage.model.caller import Caller
from moorage.model.errors import Unauthenticated

_KEY = "moorage"


@dataclass(slots=True)
class Context:
    """`minor` is the N of version 1.N. `base_url` has no slash at its end."""

    request_id: str = field(default_factory=lambda: f"req-{uuid.uuid4()}")
    minor: int = 1
    base_url: str = ""
    caller: Caller | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Sent with the answer, whatever it is."""

    def put(self, scope: MutableMapping[str, Any]) -> None:
        scope[_KEY] = self


def context_in(scope: MutableMapping[str, Any]) -> Context:
    """The context that `Requests` put there, outermost."""
    context: Context = scope[_KEY]
    return context


def context_of(request: Request) -> Context:
    return context_in(request.scope)


def caller_of(request: Request) -> Caller:
    """Who asks. Raises Unauthenticated on a route that is open to everyone."""
    caller = context_of(request).caller
    if caller is None:
        raise Unauthenticated("This needs a token.")
    return caller
