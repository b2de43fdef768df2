"""Microversions: `OpenStack-API-Version: container-infra 1.N`, in and out.

https://specs.openstack.org/openstack/api-wg/guidelines/microversion_specification.html
No header means 1.1, and `latest` the newest. What each version changed is in Magnum's
REST API version history. Its code (magnum/api/controllers/v1, 11.0.0 and 23.0.0) is
wider than its history in three places, and so is this: stats (1.4), the rotation of a CA
(1.5) and quotas (1.6) are served in every version, and so are the fields of 1.14.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import NamedTuple

from moorage.api import errors

LEAST, MOST = 1, 14
"""The N of the oldest and of the newest version 1.N."""

ACCEPTS_AT_ONCE = 2
"""From here on a bay is made and changed later, and the answer is its uuid alone."""
ROLLS_BACK = 3
"""From here on a change may ask to be rolled back if it fails."""
ALLOWS_ZERO_NODES = 10
NAMES_CLUSTER_ID = 13
"""From here on a cluster has `cluster_id` in place of `stack_id`."""


class Bounds(NamedTuple):
    """The N of the first and of the last version that a route is in."""

    since: int = LEAST
    until: int = MOST


BOUNDS: Mapping[str, Bounds] = {
    "/v1/bays": Bounds(until=10),
    "/v1/baymodels": Bounds(until=10),
    "/v1/clusters/{ident}/actions/resize": Bounds(since=7),
    "/v1/clusters/{ident}/actions/upgrade": Bounds(since=8),
    "/v1/clusters/{ident}/nodegroups": Bounds(since=9),
    "/v1/credentials": Bounds(since=12),
}
"""Routes that are not in every version: the path, for it and for all below it."""

_SERVICES = ("container-infra", "container-infrastructure", "container-infrastructure-management")
"""What clients call the service; keystoneauth, and so openstacksdk, uses the longest."""
HEADER = b"openstack-api-version"
BOUNDS_HEADERS = [
    (b"openstack-api-minimum-version", f"{_SERVICES[0]} 1.{LEAST}".encode()),
    (b"openstack-api-maximum-version", f"{_SERVICES[0]} 1.{MOST}".encode()),
    (b"vary", b"OpenStack-API-Version"),
]
_HEADERS = {
    (service, minor): [(HEADER, f"{service} 1.{minor}".encode()), *BOUNDS_HEADERS]
    for service in _SERVICES
    for minor in range(LEAST, MOST + 1)
}
_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})")


def bounds_of(path: str) -> Bounds:
    """Of a route, by its path as it was declared."""
    for start, bounds in BOUNDS.items():
        if path == start or path.startswith(f"{start}/"):
            return bounds
    return Bounds()


class Version(NamedTuple):
    """What a header asks for. `minor` None: the newest that there is."""

    service: str
    minor: int | None

    def within(self, bounds: Bounds) -> tuple[int, list[tuple[bytes, bytes]]]:
        """The N that it means on a route, and the headers that tell so in the answer.

        `latest` is the last version that had the route: the old clients of bays ask for
        the newest without being told to. Another version is meant as it stands.
        """
        minor = bounds.until if self.minor is None else self.minor
        return minor, _HEADERS[self.service, minor]


DEFAULT = Version(_SERVICES[0], LEAST)


@functools.lru_cache(maxsize=256)
def asked_version(header: bytes) -> Version:
    """The version that is asked for; the header may name versions of other services too.

    Raises NotServed.
    """
    text = header.decode("latin-1")
    for part in text.split(","):
        service, _, version = part.strip().partition(" ")
        if service in _SERVICES:
            return Version(service, _minor(version.strip()))
    raise errors.NotServed(
        f"OpenStack-API-Version must be '{_SERVICES[0]} 1.N' or '{_SERVICES[0]} latest', "
        f"not {errors.shown(text)}.",
        LEAST,
        MOST,
    )


def _minor(version: str) -> int | None:
    if version.lower() == "latest":
        return None
    found = _VERSION.fullmatch(version)
    if found is None or int(found[1]) != 1 or not LEAST <= int(found[2]) <= MOST:
        raise errors.NotServed(
            f"Version {errors.shown(version)} is not served; 1.{LEAST} to 1.{MOST} are.",
            LEAST,
            MOST,
        )
    return int(found[2])


def refuse_outside(minor: int, bounds: Bounds, what: str) -> None:
    """Raises NotServed, with the versions that have `what`."""
    if not bounds.since <= minor <= bounds.until:
        raise errors.NotServed(
            f"{what} is not in version 1.{minor}, but in 1.{bounds.since} to 1.{bounds.until}.",
            *bounds,
        )
