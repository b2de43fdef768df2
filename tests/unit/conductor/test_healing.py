"""Healing as the conductor does it: told first, bounded, and remembered in the row."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable

from moorage.conductor.world import utc_now
from moorage.model.cluster import Cluster, HealthStatus
from moorage.model.healing import Healing
from moorage.model.node import NodeRef, NodeSpec, ObservedNode
from moorage.model.page import Page
from moorage.planning.healing import Limits
from moorage.providers.fake import FakeProvider
from moorage.store import EVERYTHING, Store
from tests.unit.conductor.house import House


class Slow(FakeProvider):
    """Makes nodes only once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()
        self.may.set()

    async def ensure(self, spec: NodeSpec) -> ObservedNode:
        await self.may.wait()
        return await super().ensure(spec)


def well(cluster: Cluster) -> bool:
    return cluster.status.complete and cluster.health.status is HealthStatus.HEALTHY


def unwell(cluster: Cluster) -> bool:
    return cluster.health.status is HealthStatus.UNHEALTHY


def replaced(count: int) -> Callable[[Cluster], bool]:
    return lambda cluster: well(cluster) and len(cluster.healing.replaced) == count


async def test_what_is_wrong_is_told_before_it_is_mended(store: Store) -> None:
    provider = Slow()
    house = House(store, provider)
    made = await house.add(workers=1)
    async with house.conducted():
        await house.until(made.uuid, well)
        provider.may.clear()
        provider.lose(NodeRef(made.uuid, "worker-0"))
        shown = await house.until(made.uuid, unwell)
        assert shown.health.reasons == {"worker-0": "not joined"}
        assert shown.status == "CREATE_COMPLETE"
        provider.may.set()
        await house.until(made.uuid, lambda c: well(c) and bool(c.healing.replaced))
    said = [event.what for event in await store.events.list(made.uuid, EVERYTHING, Page())]
    assert "seen: worker-0: not joined" in said


async def test_where_healing_is_off_it_is_told_and_nothing_is_done(store: Store) -> None:
    provider = FakeProvider()
    house = House(store, provider)
    made = await house.add(workers=1, labels={"auto_healing_enabled": "false"})
    async with house.conducted():
        await house.until(made.uuid, well)
        provider.stop(NodeRef(made.uuid, "worker-0"))
        shown = await house.until(made.uuid, unwell)
        assert shown.health.reasons["healing"] == (
            "off (auto_healing_enabled is false); it would do: ensure-node, fake-join"
        )
        asked = provider.calls["ensure"]
        # A wish is another thing.
        await house.wish(made.uuid, "UPDATE_IN_PROGRESS", workers=2)
        done = await house.until(made.uuid, lambda c: c.status == "UPDATE_COMPLETE")
        assert provider.calls["ensure"] > asked
        assert well(done)


async def test_replacements_are_counted_and_then_on_hold_until_the_window_moves(
    store: Store,
) -> None:
    provider = FakeProvider()
    house = House(store, provider, healing=Limits(2, share=0.0, window=3600.0))
    made = await house.add(workers=3)
    async with house.conducted():
        await house.until(made.uuid, well)
        for number in (0, 1):
            provider.lose(NodeRef(made.uuid, f"worker-{number}"))
            await house.until(made.uuid, replaced(number + 1))
        provider.lose(NodeRef(made.uuid, "worker-2"))
        shown = await house.until(made.uuid, unwell)
        said = shown.health.reasons["healing"]
        assert said.startswith("on hold until ")
        assert said.endswith("UTC: at most 2 are replaced in 60 min; next: worker-2")
        assert shown.status == "CREATE_COMPLETE"
    # Once the window has moved on, it goes on by itself with what the row says.
    later = House(store, provider, healing=Limits(2, share=0.0, window=0.001))
    async with later.conducted():
        await later.until(made.uuid, well)


async def test_the_row_keeps_what_healing_remembers(store: Store) -> None:
    house = House(store)
    moment = datetime.datetime(2030, 1, 1, 12, 0, 0, 5, tzinfo=datetime.UTC)
    made = await house.add(workers=1, healing=Healing({}, (moment,)), seen_at=moment)
    shown = await house.get(made.uuid)
    assert (shown.healing.replaced, shown.seen_at) == ((moment,), moment)


async def test_whoever_starts_looks_at_everything_at_once(store: Store) -> None:
    provider = FakeProvider()
    house = House(store, provider, heal_seconds=3600.0)
    made = await house.add(workers=1)
    async with house.conducted():
        await house.until(made.uuid, well)
    provider.drop(NodeRef(made.uuid, "worker-0"))  # nobody was there to be told
    before = utc_now()
    async with house.conducted():
        shown = await house.until(made.uuid, lambda c: well(c) and bool(c.healing.replaced))
    assert shown.seen_at is not None
    assert shown.seen_at > before
