"""What is known of a request while it is served."""

from __future__ import annotations

import random
import re
from collections.abc import MutableMapping
from typing import Annotated, Any

from fastapi import Depends

from moorage.api.links import base_url, client_address
from moorage.connections import peer_of
from moorage.metrics.requests import NO_ROUTE
from moorage.model.caller import Caller
from moorage.model.errors import Unauthenticated

CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
"""The methods that mean to change something."""

_REQUEST_ID = re.compile(rb"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Context:
    """One request, its headers looked at once; `Api` fills in the rest as it goes.

    `path` has no slash at its end: magnumclient asks for `/v1/clusters/?limit=1`, and means
    `/v1/clusters?limit=1`. `minor` is the N of version 1.N. `marks` are headers that are
    sent with the answer, whatever it is. `target` is for the audit log (`Record.target`): every
    handler that changes something names it. `route` is the template of the path, once it is
    found; `turned_away`: it was refused by a limit, and is not written down in the audit log.
    """

    __slots__ = (
        "caller", "headers", "marks", "method", "minor", "path", "request_id", "route", "scope",
        "target", "trust_proxy", "turned_away",
    )  # fmt: skip

    def __init__(self, scope: MutableMapping[str, Any], *, trust_proxy: bool = False) -> None:
        self.scope = scope
        self.trust_proxy = trust_proxy
        self.method: str = scope["method"]
        path: str = scope["path"]
        self.path = path.rstrip("/") or "/"
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = _request_id()
        self.marks = [(b"x-openstack-request-id", self.request_id.encode())]
        self.minor = 1
        self.caller: Caller | None = None
        self.target: str | None = None
        self.route = NO_ROUTE
        self.turned_away = False

    def answer_in(self, minor: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The version of the answer, and the headers that tell it."""
        self.minor = minor
        self.marks[1:] = headers

    @property
    def who(self) -> Caller:
        """Who asks. Raises Unauthenticated on a route that is open to everyone."""
        if self.caller is None:
            raise Unauthenticated("This needs a token.")
        return self.caller

    @property
    def global_request_id(self) -> str | None:
        """The id by which whoever calls us on another's behalf knows the request.

        OpenStack's services send theirs along; one of another form is a stranger's text, and
        is not taken.
        """
        given = self.headers.get(b"x-openstack-request-id")
        return given.decode() if given and _REQUEST_ID.fullmatch(given) else None

    @property
    def base_url(self) -> str:
        """What links in the answer begin with; no slash at its end."""
        return base_url(self.scope, self.headers, trust_proxy=self.trust_proxy)

    @property
    def address(self) -> str:
        """Where the request came from: an IP address, or empty where nobody knows."""
        return client_address(self.scope, self.headers, trust_proxy=self.trust_proxy)

    @property
    def peer(self) -> str:
        """As `address`, for limits: an IPv6 host has the whole /64 to choose from."""
        return peer_of(self.address)


def _given_by_the_api() -> None:
    """Is never called: `Api` hands the Context over."""


Asked = Annotated[Context, Depends(_given_by_the_api)]
"""How a handler takes its Context, so that FastAPI does not describe it as a parameter."""


def _request_id() -> str:
    """`req-` and a uuid's digits, as OpenStack has it: to be found again, not to be secret."""
    digits = f"{random.getrandbits(128):032x}"
    return f"req-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
