"""What a conductor works with: the installed plugins, and the few figures it was given."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from moorage.model.cluster import Cluster, ClusterSpec, spec_of
from moorage.model.errors import RetryLater
from moorage.model.ports import (
    AnyDriver,
    Authority,
    CaKeys,
    Checks,
    HasAddresses,
    HasHome,
    NodeProvider,
)
from moorage.planning.healing import Limits
from moorage.planning.truth import Pace, paced

T = TypeVar("T")
MISSING_DELAY = 10.0
"""Seconds until we look again whether an operator has installed what is missing."""


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True, slots=True)
class World:
    """The plugins by name, and where time and chance come from.

    `heal_seconds` is how often a cluster with nothing to do is looked at, and with very many
    `clusters` less often; `healing` bounds how much of it is replaced.
    """

    drivers: Mapping[str, AnyDriver]
    providers: Mapping[str, NodeProvider]
    authority: Callable[[CaKeys], Authority]
    heal_seconds: float = 15.0
    clusters: int = 0
    now: Callable[[], datetime.datetime] = utc_now
    jitter: Callable[[], float] = random.random
    healing: Limits = field(default_factory=Limits)

    @property
    def pace(self) -> Pace:
        return paced(self.heal_seconds, self.clusters)

    @property
    def homes(self) -> dict[str, str]:
        """Where the clusters of each provider that is bound to a place are at home."""
        return {n: p.home for n, p in self.providers.items() if isinstance(p, HasHome)}

    def driver(self, cluster: Cluster) -> AnyDriver:
        return _found(self.drivers, cluster.coe, "driver for the COE")

    def provider(self, cluster: Cluster) -> NodeProvider:
        return _found(self.providers, cluster.provider, "provider")

    def check(self, cluster: Cluster) -> None:
        """Raises Invalid where a cluster of which nothing is made can't be made here.

        Services have asked the same, and may be a process on another machine, which has other
        releases and settings.
        """
        driver, provider = self.driver(cluster), self.provider(cluster)
        if isinstance(driver, Checks):
            nodes = provider.addresses if isinstance(provider, HasAddresses) else ()
            driver.checked(cluster.labels, nodes=nodes)

    def spec(self, cluster: Cluster, keys: CaKeys | None) -> ClusterSpec:
        """The cluster as its driver is told of it. RetryLater where its CA can't be used."""
        if keys is None:
            raise RetryLater(
                "the key of the cluster's CA does not open: the key file that sealed it is "
                "missing. With it put back all goes on; without, the cluster can be deleted",
                delay=MISSING_DELAY,
            )
        return spec_of(cluster, self.authority(keys))


def _found(things: Mapping[str, T], name: str, noun: str) -> T:
    try:
        return things[name]
    except KeyError:
        raise RetryLater(f"no {noun} {name!r} is installed here", delay=MISSING_DELAY) from None
