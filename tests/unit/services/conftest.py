from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from moorage.model.caller import Caller
from moorage.model.cluster import ClusterSpec
from moorage.model.errors import NoRoom
from moorage.model.node import Flavor, NodeRef, NodeSpec, ObservedNode, Role
from moorage.model.plan import Step
from moorage.model.ports import Host, Members, Observed
from moorage.services import Catalogue, CertificateService, ClusterService, TemplateService
from moorage.store import Limits, Store
from moorage.trust.seal import Seal

TINY = Flavor("tiny", vcpus=1, memory_mib=512, disk_gib=2, pids=100)
SMALL = Flavor("small", vcpus=2, memory_mib=1024, disk_gib=5, pids=100)


class PaperDriver:
    """Knows which nodes a cluster wants, and is asked for nothing else by the services."""

    coe: ClassVar[str] = "swarm"

    def nodes(self, cluster: ClusterSpec) -> list[NodeSpec]:
        return [
            NodeSpec(cluster.uuid, f"{role}-{number}", role, flavor, f"{role}-{number}")
            for role, count, flavor in (
                (Role.MASTER, cluster.masters, cluster.master_flavor),
                (Role.WORKER, cluster.workers, cluster.flavor),
            )
            for number in range(count)
        ]

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
    catalogue: Catalogue
    templates: TemplateService
    clusters: ClusterService
    certificates: CertificateService


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = await Store.open(f"sqlite:///{tmp_path / 'moorage.db'}", Seal([b"k" * 32]))
    small = SmallProvider()
    catalogue = Catalogue(
        [TINY, SMALL],
        {"swarm": PaperDriver()},
        {"local": PaperProvider(), "small": small},
        "local",
    )
    yield House(
        store,
        small,
        catalogue,
        TemplateService(store, catalogue),
        ClusterService(store, catalogue, Limits(clusters=4, nodes=20)),
        CertificateService(store),
    )
    await store.close()


def caller(project: str, *roles: str, user: str = "user") -> Caller:
    return Caller(user, user, project, project, frozenset(roles), 0.0)


OURS = caller("ours", "member", "reader")
OUR_READER = caller("ours", "reader")
THEIRS = caller("theirs", "member", "reader")
NOBODY = caller("ours", "auditor")
ADMIN = caller("admin", "admin", "member", "reader")
