"""One cluster, one worker; and whoever is cut off, someone goes on from there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from moorage.conductor import loop
from moorage.conductor.loop import Conductor
from moorage.model.errors import Refused, RetryLater
from moorage.model.node import NodeRef, NodeSpec, ObservedNode
from moorage.providers.fake import FakeProvider, Hangs, Slow
from moorage.store import Store
from tests.unit.conductor.house import House, open_store


async def test_a_cancelled_conductor_gives_back_what_another_finishes(
    tmp_path: Path,
) -> None:
    """The store and the provider are opened anew, as by a new process."""
    store = await open_store(tmp_path)
    house = House(store, provider := Hangs(tmp_path / "nodes"))
    cluster = await house.add()
    task = asyncio.create_task(Conductor(store, house.world).run())
    await provider.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.claims.next_due() == 0.0
    await store.close()

    store = await open_store(tmp_path)
    house = House(store, FakeProvider(tmp_path / "nodes"))
    assert [n.state for n in await house.provider.observe(cluster.uuid)] == ["broken"] * 3
    async with house.conducted():
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
    await store.close()


async def test_a_claim_of_a_process_that_died_is_broken_at_the_start(store: Store) -> None:
    house = House(store)
    cluster = await house.add()
    dead = await store.claims.take("a process that died", lease=3600.0)
    assert dead
    async with house.conducted(alone=True):
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")


async def test_a_lease_that_ran_out_is_taken_over_by_the_timer(store: Store) -> None:
    house = House(store)
    cluster = await house.add()
    assert await store.claims.take("a process that died elsewhere", lease=0.05)
    async with house.conducted(alone=False):
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")


class Exclusive(Slow):
    """Notes when two turns work on one cluster at once."""

    def __init__(self) -> None:
        super().__init__(seconds=0.005)
        self.inside: Counter[str] = Counter()
        self.most = 0

    async def observe(self, owner: str) -> list[ObservedNode]:
        self.inside[owner] += 1
        self.most = max(self.most, self.inside[owner])
        try:
            await asyncio.sleep(0.003)
            return await super().observe(owner)
        finally:
            self.inside[owner] -= 1


async def test_two_conductors_never_hold_one_cluster(store: Store) -> None:
    house = House(store, provider := Exclusive(), heal_seconds=0.01)
    clusters = [await house.add(f"c{i}") for i in range(8)]
    async with (
        house.conducted(alone=False) as one,
        house.conducted(alone=False) as two,
    ):
        for cluster in clusters:
            await house.until_status(cluster.uuid, "CREATE_COMPLETE")
            await house.wish(cluster.uuid, "DELETE_IN_PROGRESS")
        await asyncio.gather(*(house.until_gone(cluster.uuid) for cluster in clusters))
    assert one.name != two.name
    assert provider.most == 1


async def test_a_lost_claim_writes_nothing(store: Store) -> None:
    house = House(store, provider := Hangs())
    cluster = await house.add()
    async with house.conducted():
        await provider.reached.wait()
        await store.claims.break_all()
        other = await store.claims.take("another", lease=60.0)
        assert other
        provider.released.set()
        await house.chronicle.until(lambda: bool(house.chronicle.refused))
    assert house.chronicle.applied == []
    assert (await house.get(cluster.uuid)).status_reason is None
    await store.claims.renew(other, 60.0)


async def test_a_turn_whose_claim_is_lost_is_cut_off(store: Store) -> None:
    house = House(store, provider := Hangs())
    await house.add()
    async with house.conducted(lease=0.03):
        await provider.reached.wait()
        await store.claims.break_all()
        assert await store.claims.take("another", lease=60.0)
        await house.chronicle.until(lambda: bool(house.chronicle.released))
    assert house.chronicle.applied == []


async def test_a_long_turn_keeps_its_claim(store: Store) -> None:
    house = House(store, provider := Hangs())
    cluster = await house.add()
    async with house.conducted(lease=0.06):
        await provider.reached.wait()
        await asyncio.sleep(0.15)
        assert await store.claims.take("another", lease=60.0) is None
        provider.released.set()
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
    assert house.chronicle.refused == []


async def test_a_graceful_stop_lets_running_steps_end_and_starts_no_more(store: Store) -> None:
    house = House(store, provider := Hangs())
    cluster = await house.add()
    async with house.conducted() as conductor:
        await provider.reached.wait()
        conductor.stop()
        asyncio.get_running_loop().call_later(0.02, provider.released.set)
    history = house.chronicle.history(cluster.uuid)
    assert len(history) == 1
    assert history[0].startswith("CREATE_IN_PROGRESS: creating: 3 ensure-node in ")
    assert await store.claims.next_due() == 0.0


async def test_a_stop_cuts_off_what_does_not_end(store: Store) -> None:
    house = House(store, provider := Hangs())
    await house.add()
    async with house.conducted(grace=0.01):
        await provider.reached.wait()
    assert house.chronicle.applied == []
    assert await store.claims.next_due() == 0.0


async def test_no_more_turns_at_once_than_allowed(store: Store) -> None:
    house = House(store, provider := Hangs())
    for i in range(4):
        await house.add(f"c{i}", workers=0)
    async with house.conducted(turns=2, grace=0.01) as conductor:
        await provider.reached.wait()
        await asyncio.sleep(0.02)
        assert len(conductor.running) == 2
        assert len(house.chronicle.takes) == 2


async def test_an_idle_conductor_sleeps(store: Store) -> None:
    """It neither asks the store nor the provider until something is due."""
    house = House(store, provider := FakeProvider())
    cluster = await house.add()
    asked = 0
    take = house.chronicle.take

    async def counted(worker: str, lease: float) -> Any:
        nonlocal asked
        asked += 1
        return await take(worker, lease)

    house.chronicle.take = counted  # type: ignore[method-assign]
    async with house.conducted():
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
        await asyncio.sleep(0.01)
        before = asked, provider.calls["observe"]
        await asyncio.sleep(0.2)
        assert (asked, provider.calls["observe"]) == before


async def test_a_store_in_trouble_is_asked_again(store: Store) -> None:
    house = House(store)
    cluster = await house.add()
    take, failures = house.chronicle.take, [RetryLater("the disk is full", delay=0.01)]

    async def failing(worker: str, lease: float) -> Any:
        if failures:
            raise failures.pop()
        return await take(worker, lease)

    house.chronicle.take = failing  # type: ignore[method-assign]
    async with house.conducted():
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
    assert not failures


@pytest.mark.parametrize("failure", [RetryLater("the server is stopping"), RuntimeError("a bug")])
async def test_a_stop_is_heard_also_where_the_claim_in_flight_fails(
    store: Store, failure: Exception
) -> None:
    """As where the database ends together with us."""
    house = House(store)
    await house.add()
    asked, fail = asyncio.Event(), asyncio.Event()
    take = house.chronicle.take

    async def failing(worker: str, lease: float) -> Any:
        if not asked.is_set():
            asked.set()
            await fail.wait()
            raise failure
        return await take(worker, lease)

    house.chronicle.take = failing  # type: ignore[method-assign]
    conductor = Conductor(store, house.world)
    running = asyncio.create_task(conductor.run())
    await asked.wait()
    conductor.stop()
    asyncio.get_running_loop().call_later(0.02, fail.set)
    try:
        async with asyncio.timeout(5):
            await asyncio.shield(running)
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert house.chronicle.takes == []
    assert await store.claims.next_due() == 0.0


@pytest.mark.parametrize("failure", [Refused("a wrong password"), RuntimeError("XX000")])
async def test_an_error_of_the_look_for_deletions_ends_nothing(
    store: Store, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that fails over may say anything for a moment."""
    house = House(store, provider := Hangs())
    cluster = await house.add()
    going, failures = store.clusters.going, [failure]
    seen: list[str] = []

    async def failing(uuids: Collection[str]) -> set[str]:
        if failures:
            raise failures.pop()
        seen.extend(found := await going(uuids))
        return found

    monkeypatch.setattr(store.clusters, "going", failing)
    monkeypatch.setattr(loop, "PAUSE", 0.01)
    async with house.conducted(grace=0.01):
        await provider.reached.wait()
        while failures:
            store.hints.give()
            await asyncio.sleep(0.005)
        await house.wish(cluster.uuid, "DELETE_IN_PROGRESS")
        await house.until_gone(cluster.uuid)
    assert seen == [cluster.uuid]


async def test_an_error_in_the_write_leaves_the_lease_to_run_out(store: Store) -> None:
    house = House(store)
    cluster = await house.add(workers=0)
    apply, failures = house.chronicle.apply, [RuntimeError("no write")]

    async def failing(*args: Any) -> bool:
        if failures:
            raise failures.pop()
        return await apply(*args)

    house.chronicle.apply = failing  # type: ignore[method-assign,assignment]
    async with house.conducted(lease=0.05):
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")


@pytest.mark.parametrize("stop_at", range(1, 12))
async def test_cut_off_at_any_act_it_goes_on(tmp_path: Path, stop_at: int) -> None:
    """Create, scale and delete, where the conductor dies after its `stop_at`-th act."""
    acts = 0
    task: asyncio.Task[None] | None = None

    class Mortal(FakeProvider):
        def _count(self) -> None:
            nonlocal acts
            acts += 1
            if acts == stop_at and task is not None:
                task.cancel()

        async def ensure(self, spec: NodeSpec) -> ObservedNode:
            node = await super().ensure(spec)
            self._count()
            return node

        async def observe(self, owner: str) -> list[ObservedNode]:
            nodes = await super().observe(owner)
            self._count()
            return nodes

        async def delete(self, ref: NodeRef) -> None:
            await super().delete(ref)
            self._count()

    store = await open_store(tmp_path)
    house = House(store, provider := Mortal(tmp_path / "nodes"))
    cluster = await house.add()

    async def immortal() -> None:
        nonlocal task
        while True:
            task = asyncio.create_task(Conductor(store, house.world).run())
            await asyncio.wait([task])

    keeper = asyncio.create_task(immortal())
    try:
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
        await house.wish(cluster.uuid, "UPDATE_IN_PROGRESS", workers=1)
        await house.until_status(cluster.uuid, "UPDATE_COMPLETE")
        await house.wish(cluster.uuid, "DELETE_IN_PROGRESS")
        await house.until_gone(cluster.uuid)
    finally:
        keeper.cancel()
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await store.close()
    assert acts >= stop_at
    assert provider.owners() == set()
    assert list((tmp_path / "nodes").iterdir()) == []
