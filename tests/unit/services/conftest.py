from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from moorage.model.caller import Caller
from moorage.model.cluster import Cluster, ClusterSpec, ClusterStatus
from moorage.model.errors import NoRoom
from moorage.model.node import Flavor, NodeRef, NodeSpec, ObservedNode
from moorage.model.page import Page
from moorage.model.plan import Step
from moorage.model.ports import Host, Members, Observed
from moorage.model.quota import Resource
from moorage.services import (
    Catalogue,
    CertificateService,
    ClusterService,
    Services,
    TemplateService,
    open_services,
)
from moorage.store import EVERYTHING, Store
from moorage.trust.seal import Seal

TINY = Flavor("tiny", vcpus=1, memory_mib=512, disk_gib=2, pids=100)
SMALL = Flavor("small", vcpus=2, memory_mib=1024, disk_gib=5, pids=100)


class PaperDriver:
    """Is there, and is asked for nothing by the services."""

    coe: ClassVar[str] = "swarm"

    def nodes(self, cluster: ClusterSpec) -> list[NodeSpec]:
        raise AssertionError

    async def observe(
        self, cluster: ClusterSpec, nodes: Mapping[str, ObservedNode], members: Members
    ) -> Observed:
        raise AssertionError

    def plan(self, cluster: ClusterSpec, seen: Observed) -> list[Step]:
        raise AssertionError

    async def perform(self, step: Step, cluster: ClusterSpec, members: Members) -> None:
        raise AssertionError


class PaperProvider:
    name: ClassVar[str] = "local"

    async def ensure(self, spec: NodeSpec) -> ObservedNode:
        raise AssertionError

    async def observe(self, owner: str) -> list[ObservedNode]:
        raise AssertionError

    async def delete(self, ref: NodeRef) -> None:
        raise AssertionError

    def host(self, ref: NodeRef) -> Host:
        raise AssertionError


class SmallProvider(PaperProvider):
    """Has room for `left` MiB, and remembers what it was asked about."""

    name: ClassVar[str] = "small"

    def __init__(self) -> None:
        self.left = 2048
        self.asked: list[list[str]] = []

    async def room_for(self, specs: Iterable[NodeSpec]) -> None:
        wanted = list(specs)
        self.asked.append([spec.name for spec in wanted])
        memory = sum(spec.flavor.memory_mib for spec in wanted)
        if memory > self.left:
            raise NoRoom(f"{memory} MiB were asked for and {self.left} are left")


@dataclasses.dataclass(frozen=True)
class House:
    """The services over a store of their own."""

    store: Store
    small: SmallProvider
    services: Services

    @property
    def templates(self) -> TemplateService:
        return self.services.templates

    @property
    def clusters(self) -> ClusterService:
        return self.services.clusters

    @property
    def certificates(self) -> CertificateService:
        return self.services.certificates

    @property
    def catalogue(self) -> Catalogue:
        return self.services.catalogue

    async def events(self, uuid: str) -> list[str]:
        """A cluster's story, in words."""
        found = await self.store.events.list(uuid, EVERYTHING, Page())
        return [f"{event.what} ({event.cause})" for event in found]

    async def settle(self, uuid: str, status: str, **fields: Any) -> Cluster:
        """What the conductor writes at the end of a turn."""
        claim = await self.store.claims.take("test", 30.0)
        assert claim is not None
        assert claim.cluster.uuid == uuid
        after = dataclasses.replace(claim.cluster, status=ClusterStatus(status), **fields)
        await self.store.claims.apply(claim, after, 60.0)
        return await self.store.clusters.get(uuid, EVERYTHING)


QUOTAS = {
    Resource.CLUSTER: 4,
    Resource.NODE: 20,
    Resource.CPU: 40,
    Resource.MEMORY: 20_480,
    Resource.DISK: 100,
}


def house_over(store: Store) -> House:
    small = SmallProvider()
    catalogue = Catalogue(
        [TINY, SMALL],
        {"swarm": PaperDriver()},
        {"local": PaperProvider(), "small": small},
        "local",
        store.offers,
    )
    return House(store, small, open_services(store, catalogue, QUOTAS))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = await Store.open(f"sqlite:///{tmp_path / 'moorage.db'}", Seal([b"k" * 32]))
    yield house_over(store)
    await store.close()


def caller(project: str, *roles: str, user: str = "user") -> Caller:
    return Caller(user, user, project, project, frozenset(roles), 0.0)


OURS = caller("ours", "member", "reader")
OUR_READER = caller("ours", "reader")
THEIRS = caller("theirs", "member", "reader")
NOBODY = caller("ours", "auditor")
ADMIN = caller("admin", "admin", "member", "reader")
