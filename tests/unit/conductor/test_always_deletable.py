"""A delete ends, whatever is broken; and where only force ends it, it leaves a record."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from moorage.conductor import world
from moorage.model.cluster import Cluster
from moorage.model.errors import Refused, RetryLater
from moorage.model.node import NodeRef, ObservedNode
from moorage.model.orphan import Abandoned
from moorage.model.page import Page
from moorage.planning.abandoning import TRIES
from moorage.providers.fake import Blind, DeleteFails, FakeProvider
from moorage.services import wishes
from moorage.store import EVERYTHING, Store
from moorage.trust.seal import Seal
from tests.unit.conductor.house import LIMITS, House

ALWAYS = 1_000_000


class Never(Blind):
    """Doesn't answer for a delete either."""

    async def delete(self, ref: NodeRef) -> None:
        raise RetryLater(f"node {ref.name}: the machine does not answer", delay=0.01)


class Refuses(FakeProvider):
    async def delete(self, ref: NodeRef) -> None:
        raise Refused("the machine is not yours")


class Breaks(FakeProvider):
    async def delete(self, ref: NodeRef) -> None:
        raise KeyError("secret detail")


class Hangs(FakeProvider):
    async def delete(self, ref: NodeRef) -> None:
        await asyncio.Event().wait()


class Lies(FakeProvider):
    """Says that it deleted the node."""

    async def delete(self, ref: NodeRef) -> None:
        return


class KeepsTraces(FakeProvider):
    """Its nodes go, and a network stays."""

    async def clear(self, owner: str) -> None:
        raise RetryLater("the network is in use", delay=0.01)

    async def traces(self, owner: str) -> list[str]:
        return ["slot 7"]


async def whole(house: House) -> Cluster:
    cluster = await house.add(masters=1, workers=1)
    async with house.conducted():
        return await house.until_status(cluster.uuid, "CREATE_COMPLETE")


async def force(store: Store, uuid: str) -> None:
    await store.clusters.want(uuid, lambda c: wishes.deleted(c, "root"), LIMITS, by="root")


async def record(store: Store) -> Abandoned:
    (left,) = await store.abandoned.list()
    return left


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "MISSING_DELAY", 0.01)
    monkeypatch.setattr("moorage.planning.outcomes.Trouble.__init__", _impatient)


def _impatient(self: Any, kind: Any, reason: str, delay: float = 1.0) -> None:
    for name, value in (("kind", kind), ("reason", reason), ("delay", min(delay, 0.01))):
        object.__setattr__(self, name, value)


async def test_it_says_at_each_try_what_it_waits_for(store: Store) -> None:
    house = House(store, DeleteFails(times=4))
    cluster = await whole(house)
    await house.wish(cluster.uuid, "DELETE_IN_PROGRESS")
    async with house.conducted():
        await house.until_gone(cluster.uuid)
    told = [line for line in house.chronicle.history(cluster.uuid) if line.startswith("DELETE_")]
    assert len(told) == 4
    assert all("is busy" in line and "delete-node" in line for line in told)
    assert await store.abandoned.list() == []


@pytest.mark.parametrize(
    ("provider", "reason"),
    [
        (DeleteFails(times=ALWAYS), "is busy"),
        (Refuses(), "not yours"),
        (Breaks(), "internal error in step delete-node"),
        (Lies(), "still there"),
        (KeepsTraces(), "clear: the network is in use"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_force_ends_what_the_provider_keeps_from_ending(
    store: Store, provider: FakeProvider, reason: str
) -> None:
    house = House(store, provider)
    cluster = await whole(house)
    await force(store, cluster.uuid)
    async with house.conducted():
        await house.until_gone(cluster.uuid)
    left = await record(store)
    assert reason in left.reason
    assert "secret" not in left.reason
    assert (left.uuid, left.name, left.project_id) == (cluster.uuid, "c", "p")
    assert (left.provider, left.forced_by) == ("fake", "root")
    if not isinstance(provider, KeepsTraces):
        assert [(n.name, n.state) for n in left.nodes] == [
            ("master-0", "running"),
            ("worker-0", "running"),
        ]
        assert all(node.address for node in left.nodes)
    assert left.traces, "what its provider sees of it"
    story = await store.events.list(cluster.uuid, EVERYTHING, Page())
    assert story[-1].what.startswith("abandoned: may remain with fake: ")
    tries = [e for e in story if e.kind == "turn" and e.what.startswith("deleting: ")]
    assert len(tries) == TRIES - 1


async def test_force_ends_where_nothing_can_be_seen(store: Store) -> None:
    house = House(store, provider := Never())
    provider.blind = False
    cluster = await whole(house)
    provider.blind = True
    await force(store, cluster.uuid)
    async with house.conducted():
        await house.until_gone(cluster.uuid)
    left = await record(store)
    assert {node.name for node in left.nodes} == {"master-0", "worker-0"}
    assert {node.state for node in left.nodes} == {"unknown"}
    assert all(node.address for node in left.nodes), "as the row had them"


async def test_force_ends_where_a_delete_hangs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorage.planning.nodes.DELETE_SECONDS", 0.02)
    house = House(store, Hangs())
    cluster = await whole(house)
    await force(store, cluster.uuid)
    async with house.conducted():
        await house.until_gone(cluster.uuid)
    assert "not done within" in (await record(store)).reason


async def test_force_that_was_not_needed_leaves_no_record(store: Store) -> None:
    house = House(store, DeleteFails(times=TRIES - 1))
    cluster = await whole(house)
    await force(store, cluster.uuid)
    async with house.conducted():
        await house.until_gone(cluster.uuid)
    assert await store.abandoned.list() == []
    assert isinstance(house.provider, FakeProvider)
    assert house.provider.owners() == set()


async def test_a_provider_that_is_no_longer_installed(store: Store) -> None:
    house = House(store)
    cluster = await whole(house)
    house.world = world.World(house.world.drivers, {"other": FakeProvider()}, house.world.authority)
    await house.wish(cluster.uuid, "DELETE_IN_PROGRESS")
    async with house.conducted():
        seen = await house.until(cluster.uuid, lambda c: c.attempts > 0)
        assert "no provider 'fake' is installed here" in (seen.status_reason or "")
        await force(store, cluster.uuid)
        await house.until_gone(cluster.uuid)
    left = await record(store)
    assert {node.name for node in left.nodes} == {"master-0", "worker-0"}
    assert "no provider 'fake'" in left.reason


async def test_a_driver_that_is_no_longer_installed(store: Store) -> None:
    house = House(store)
    cluster = await whole(house)
    house.world = world.World({}, house.world.providers, house.world.authority)
    await house.wish(cluster.uuid, "DELETE_IN_PROGRESS")
    async with house.conducted():
        await house.until_gone(cluster.uuid)
    assert isinstance(house.provider, FakeProvider)
    assert house.provider.owners() == set()


async def test_a_ca_key_that_is_lost(store: Store, tmp_path: Path) -> None:
    """Where the key file is another one, Moorage does not start by itself, and says how."""
    house = House(store)
    cluster = await whole(house)
    url, other = f"sqlite:///{tmp_path / 'moorage.db'}", Seal([b"n" * 32])
    with pytest.raises(Refused, match="--key-lost"):
        await Store.open(url, other)
    reopened = await Store.open(url, other, key_lost=True)
    try:
        second = House(reopened, house.provider)
        async with second.conducted():
            await reopened.claims.hasten(cluster.uuid)
            seen = await second.until(cluster.uuid, lambda c: c.attempts > 0)
            assert "does not open" in (seen.status_reason or "")
            await second.wish(cluster.uuid, "DELETE_IN_PROGRESS")
            await second.until_gone(cluster.uuid)
    finally:
        await reopened.close()
    assert isinstance(house.provider, FakeProvider)
    assert house.provider.owners() == set()


async def test_a_conductor_that_stops_gives_nothing_up(store: Store) -> None:
    """What a graceful stop leaves undone is no failure."""
    reached = asyncio.Event()

    class Slow(FakeProvider):
        async def observe(self, owner: str) -> list[ObservedNode]:
            seen = await super().observe(owner)
            if slow:
                reached.set()
                await asyncio.sleep(0.05)
            return seen

    slow = False
    house = House(store, Slow())
    cluster = await whole(house)
    await force(store, cluster.uuid)
    await store.clusters.want(cluster.uuid, lambda c: c, LIMITS, by="root")
    slow = True
    for _ in range(3):
        reached.clear()
        async with house.conducted():
            async with asyncio.timeout(10):
                await reached.wait()
    assert await store.abandoned.list() == []
    left = await house.get(cluster.uuid)
    assert left.forced_by == "root"
    assert left.attempts == 0, "nothing was tried"
    assert "still there" not in (left.status_reason or "")
    async with house.conducted():
        await house.until_gone(cluster.uuid)
    assert await store.abandoned.list() == []
