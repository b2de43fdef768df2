"""A conductor with a real store, fake plugins, and everything that it wrote noted."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from moorage.conductor.loop import Conductor
from moorage.conductor.world import World, utc_now
from moorage.drivers.fake import FakeDriver
from moorage.model.cluster import Cluster, ClusterStatus
from moorage.model.errors import NotFound
from moorage.model.event import Event
from moorage.model.node import Flavor
from moorage.model.orphan import Abandoned
from moorage.model.ports import KeyPair, NodeProvider
from moorage.model.quota import Amounts
from moorage.model.template import ClusterTemplate
from moorage.providers.fake import FakeProvider
from moorage.store import EVERYTHING, Claim, LostClaim, Store
from moorage.trust import ClusterAuthority, Seal
from tests import made

FLAVOR = Flavor("tiny", vcpus=1, memory_mib=64, disk_gib=1, pids=100)
LIMITS: Amounts = {}
PATIENCE = 10.0
"""Seconds after which a test that waits has failed."""


class Chronicle:
    """`store.claims`, with all that passes through it noted in order."""

    def __init__(self, claims: Any) -> None:
        self._claims = claims
        self.takes: list[str] = []
        self.applied: list[tuple[Cluster, float]] = []
        self.refused: list[Cluster] = []
        self.released: list[str] = []
        self.news = asyncio.Condition()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._claims, name)

    async def take(self, worker: str, lease: float) -> Claim | None:
        claim = cast("Claim | None", await self._claims.take(worker, lease))
        if claim:
            self.takes.append(claim.cluster.uuid)
        return claim

    async def apply(
        self, claim: Claim, cluster: Cluster, due_in: float, events: Sequence[Event] = ()
    ) -> bool:
        try:
            current = bool(await self._claims.apply(claim, cluster, due_in, events))
        except LostClaim:
            self.refused.append(cluster)
            await self._tell()
            raise
        self.applied.append((cluster, due_in))
        await self._tell()
        return current

    async def step_back(self, claim: Claim, reason: str, events: Sequence[Event] = ()) -> bool:
        stepped = bool(await self._claims.step_back(claim, reason, events))
        await self._tell()
        return stepped

    async def note(self, claim: Claim, cluster: Cluster, events: Sequence[Event] = ()) -> None:
        await self._claims.note(claim, cluster, events)
        await self._tell()

    async def remove(self, claim: Claim, events: Sequence[Event] = ()) -> None:
        await self._claims.remove(claim, events)
        await self._tell()

    async def abandon(self, claim: Claim, left: Abandoned, events: Sequence[Event] = ()) -> None:
        await self._claims.abandon(claim, left, events)
        await self._tell()

    async def release(self, claim: Claim) -> None:
        await self._claims.release(claim)
        self.released.append(claim.cluster.uuid)
        await self._tell()

    async def until(self, right: Callable[[], bool]) -> None:
        """Wait for a write after which something is right."""

        async def wait() -> None:
            async with self.news:
                await self.news.wait_for(right)

        async with asyncio.timeout(PATIENCE):
            await wait()

    async def _tell(self) -> None:
        async with self.news:
            self.news.notify_all()

    def history(self, uuid: str) -> list[str]:
        """The status and its reason after each turn, in order."""
        return [f"{c.status}: {c.status_reason}" for c, _ in self.applied if c.uuid == uuid]


class House:
    """One store, its chronicle, and a conductor over the given fakes."""

    def __init__(
        self,
        store: Store,
        provider: NodeProvider | None = None,
        driver: FakeDriver | None = None,
        **world: Any,
    ) -> None:
        self.store = store
        self.chronicle = Chronicle(store.claims)
        store.claims = cast(Any, self.chronicle)
        self.provider = provider or FakeProvider()
        self.world = World(
            drivers={"fake": driver or FakeDriver()},
            providers={"fake": self.provider},
            authority=ClusterAuthority,
            **{"heal_seconds": 60.0, "jitter": lambda: 0.0, **world},
        )

    @asynccontextmanager
    async def conducted(self, **options: Any) -> AsyncIterator[Conductor]:
        conductor = Conductor(self.store, self.world, **options)
        task = asyncio.create_task(conductor.run())
        try:
            yield conductor
        finally:
            conductor.stop()
            async with asyncio.timeout(PATIENCE):
                await task

    async def add(self, name: str = "c", **fields: Any) -> Cluster:
        template = await self.store.templates.add(
            ClusterTemplate(
                uuid=str(uuid.uuid4()),
                project_id="p",
                user_id="u",
                name="t",
                coe="fake",
                flavor_id=FLAVOR.name,
                master_flavor_id=FLAVOR.name,
            )
        )
        counts = {name: fields.pop(name) for name in ("masters", "workers") if name in fields}
        cluster = made.cluster(
            **counts,
            **{"uuid": str(uuid.uuid4()), "name": name, "deadline": soon(hours=1), **fields},
        )
        groups = (dataclasses.replace(g, template_uuid=template.uuid) for g in cluster.groups)
        cluster = dataclasses.replace(cluster, template_uuid=template.uuid, groups=tuple(groups))
        return await self.store.clusters.add(
            cluster, KeyPair(b"certificate", b"key"), LIMITS, by="u"
        )

    async def wish(self, uuid: str, status: str, **fields: Any) -> None:
        """`workers`: that many in the default group."""
        workers = fields.pop("workers", None)

        def wish(cluster: Cluster) -> Cluster:
            groups = cluster.groups
            if workers is not None:
                changed = dataclasses.replace(
                    groups[1], ordinals=tuple(range(workers)), status=ClusterStatus(status)
                )
                groups = (groups[0], changed, *groups[2:])
            wanted = {"groups": groups, "deadline": soon(hours=1), **fields}
            return dataclasses.replace(
                cluster, status=ClusterStatus(status), status_reason=None, **wanted
            )

        await self.store.clusters.want(uuid, wish, LIMITS, by="u")

    async def get(self, uuid: str) -> Cluster:
        return await self.store.clusters.get(uuid, EVERYTHING)

    async def until(self, uuid: str, right: Callable[[Cluster], bool]) -> Cluster:
        """Wait for a turn after which the cluster is right."""

        async def wait() -> Cluster:
            async with self.chronicle.news:
                while not right(cluster := await self.get(uuid)):
                    await self.chronicle.news.wait()
                return cluster

        try:
            async with asyncio.timeout(PATIENCE):
                return await wait()
        except TimeoutError:
            raise AssertionError(f"never right: {self.chronicle.history(uuid)}") from None

    async def until_status(self, uuid: str, status: str) -> Cluster:
        return await self.until(uuid, lambda cluster: cluster.status == status)

    async def until_gone(self, uuid: str) -> None:
        async def wait() -> None:
            async with self.chronicle.news:
                with contextlib.suppress(NotFound):
                    while await self.get(uuid):
                        await self.chronicle.news.wait()

        try:
            async with asyncio.timeout(PATIENCE):
                await wait()
        except TimeoutError:
            raise AssertionError(f"never gone: {self.chronicle.history(uuid)}") from None


async def open_store(directory: Path) -> Store:
    seal = Seal.load_or_create(directory / "seal.key")
    return await Store.open(f"sqlite:///{directory / 'moorage.db'}", seal)


def soon(**delta: float) -> datetime.datetime:
    return utc_now() + datetime.timedelta(**delta)
