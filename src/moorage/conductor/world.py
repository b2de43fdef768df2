"""What a conductor works with: the installed plugins, and the few figures it was given."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from moorage.model.cluster import Cluster, ClusterSpec
from moorage.model.errors import RetryLater
from moorage.model.node import Flavor
from moorage.model.ports import AnyDriver, Authority, KeyPair, NodeProvider

T = TypeVar("T")
MISSING_DELAY = 10.0
"""Seconds until we look again whether an operator has installed what is missing."""


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True, slots=True)
class World:
    """The plugins by name, and where time and chance come from.

    `heal_seconds` is how often a cluster with nothing to do is looked at.
    """

    drivers: Mapping[str, AnyDriver]
    providers: Mapping[str, NodeProvider]
    flavors: Mapping[str, Flavor]
    authority: Callable[[KeyPair], Authority]
    heal_seconds: float = 15.0
    now: Callable[[], datetime.datetime] = utc_now
    jitter: Callable[[], float] = random.random

    def driver(self, cluster: Cluster) -> AnyDriver:
        return _found(self.drivers, cluster.coe, "driver for the COE")

    def provider(self, cluster: Cluster) -> NodeProvider:
        return _found(self.providers, cluster.provider, "provider")

    def spec(self, cluster: Cluster, ca: KeyPair) -> ClusterSpec:
        """The cluster as its driver is told of it. RetryLater where a flavor is not there."""
        return ClusterSpec(
            uuid=cluster.uuid,
            name=cluster.name,
            coe=cluster.coe,
            masters=cluster.master_count,
            workers=cluster.node_count,
            flavor=_found(self.flavors, cluster.flavor_id, "flavor"),
            master_flavor=_found(self.flavors, cluster.master_flavor_id, "flavor"),
            authority=self.authority(ca),
            labels=cluster.labels,
            attempts=cluster.attempts,
        )


def _found(things: Mapping[str, T], name: str, noun: str) -> T:
    try:
        return things[name]
    except KeyError:
        raise RetryLater(f"no {noun} {name!r} is installed here", delay=MISSING_DELAY) from None
