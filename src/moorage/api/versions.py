"""Microversions: `OpenStack-API-Version: container-infra 1.N`, in and out.

https://specs.openstack.org/openstack/api-wg/guidelines/microversion_specification.html
No header means 1.1, and `latest` the newest. What each version brought is in Magnum's
REST API version history; here matter ALLOWS_ZERO_NODES and NAMES_CLUSTER_ID.
"""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.api import errors
from moorage.api.context import context_in

LEAST, MOST = 1, 14
"""The N of the oldest and of the newest version 1.N."""
ALLOWS_ZERO_NODES = 10
NAMES_CLUSTER_ID = 13
"""From here on a cluster has `cluster_id` in place of `stack_id`."""

_SERVICE = "container-infra"
_HEADER = b"openstack-api-version"
_BOUNDS = [
    (b"openstack-api-minimum-version", f"{_SERVICE} 1.{LEAST}".encode()),
    (b"openstack-api-maximum-version", f"{_SERVICE} 1.{MOST}".encode()),
    (b"vary", b"OpenStack-API-Version"),
]
_HEADERS = {
    minor: [(_HEADER, f"{_SERVICE} 1.{minor}".encode()), *_BOUNDS]
    for minor in range(LEAST, MOST + 1)
}
_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})")


class NotServed(Exception):
    """A version that is none, or not ours; its text is one sentence."""


class Versions:
    """Finds the version that is asked for, and tells in every answer which one it is in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = context_in(scope)
        asked = next((value for name, value in scope["headers"] if name == _HEADER), None)
        try:
            context.minor = LEAST if asked is None else minor_version(asked.decode("latin-1"))
        except NotServed as error:
            answer = errors.not_acceptable(
                str(error), context.request_id, least=f"1.{LEAST}", most=f"1.{MOST}"
            )
            context.headers += _BOUNDS
            await answer(scope, receive, send)
            return
        context.headers += _HEADERS[context.minor]
        await self._app(scope, receive, send)


def minor_version(header: str) -> int:
    """The N that is asked for; the header may name versions of other services too."""
    for part in header.split(","):
        service, _, version = part.strip().partition(" ")
        if service == _SERVICE:
            return _minor(version.strip())
    raise NotServed(
        f"OpenStack-API-Version must be '{_SERVICE} 1.N' or '{_SERVICE} latest', "
        f"not {errors.shown(header)}."
    )


def _minor(version: str) -> int:
    if version.lower() == "latest":
        return MOST
    found = _VERSION.fullmatch(version)
    if found is None or int(found[1]) != 1 or not LEAST <= int(found[2]) <= MOST:
        raise NotServed(
            f"Version {errors.shown(version)} is not served; 1.{LEAST} to 1.{MOST} are."
        )
    return int(found[2])
