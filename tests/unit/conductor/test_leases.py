"""A conductor that was paused past its leases, and one beside machines without a conductor."""

from __future__ import annotations

import asyncio
import datetime
import time
from types import SimpleNamespace

import pytest

from moorage.conductor import loop
from moorage.conductor.world import utc_now
from moorage.model.errors import NotFound
from moorage.providers.fake import FakeProvider, Hangs
from moorage.services import wishes
from moorage.store import Store, claims, clusters
from tests.unit.conductor.house import LIMITS, House


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The one entry is the time, on the conductor's clock."""
    now = [1000.0]
    monkeypatch.setattr(loop, "_clock", lambda: now[0])
    return now


class Wall:
    """The time of day, `ahead` seconds of what it is, for the conductor and its store."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ahead: float) -> None:
        self.ahead = ahead
        ours = SimpleNamespace(
            time=lambda: time.time() + self.ahead,
            clock_gettime=time.clock_gettime,
            CLOCK_BOOTTIME=time.CLOCK_BOOTTIME,
        )
        for module in (loop, claims, clusters):
            monkeypatch.setattr(module, "time", ours)
        monkeypatch.setattr(loop, "BEAT", 0.02)

    def now(self) -> datetime.datetime:
        return utc_now() + datetime.timedelta(seconds=self.ahead)


class AtHome(FakeProvider):
    home = "here/one"


async def test_no_step_begins_once_another_has_the_cluster(
    store: Store, clock: list[float]
) -> None:
    house = House(store, provider := Hangs())
    cluster = await house.add()
    async with house.conducted() as conductor:
        await provider.reached.wait()
        clock[0] += 31
        await store.claims.break_all()
        assert await store.claims.take("another", lease=60.0)
        provider.released.set()
        async with asyncio.timeout(5):
            while conductor.running:  # noqa: ASYNC110 -- a turn that lost its claim tells nobody
                await asyncio.sleep(0.005)
    assert all(node.state == "running" for node in await provider.observe(cluster.uuid))
    assert not [node for nodes in provider._nodes.values() for node in nodes.values() if node.files]
    assert not house.chronicle.applied
    assert not house.chronicle.refused


async def test_a_lease_that_ran_out_and_that_nobody_took_is_renewed_before_the_next_step(
    store: Store, clock: list[float]
) -> None:
    house = House(store, provider := Hangs())
    cluster = await house.add()
    async with house.conducted():
        await provider.reached.wait()
        clock[0] += 31
        provider.released.set()
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
    assert len(house.chronicle.takes) == 2


@pytest.mark.parametrize("ahead", [7200.0, 120.0])
async def test_a_clock_that_is_set_back_stops_no_looks(
    store: Store, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """As by NTP, some seconds after a machine came up with a wrong one."""
    wall = Wall(monkeypatch, ahead)
    house = House(store, heal_seconds=0.05, now=wall.now)
    cluster = await house.add()
    async with house.conducted():
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
        wall.ahead = 0.0
        turns = len(house.chronicle.applied)
        await house.chronicle.until(lambda: len(house.chronicle.applied) >= turns + 5)
    seen_at = (await house.get(cluster.uuid)).seen_at
    assert seen_at is not None
    assert seen_at <= utc_now()


async def test_a_lease_left_by_a_clock_that_was_ahead_ends(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = Wall(monkeypatch, 7200.0)
    house = House(store)
    cluster = await house.add()
    assert await store.claims.take("a process that died elsewhere", lease=30.0)
    wall.ahead = 0.0
    async with house.conducted(alone=False, lease=0.1):
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")


async def desert(store: Store) -> None:
    """Nobody has heard of any conductor for long."""
    await store.homes._database.write(
        lambda connection: connection.exec_driver_sql("UPDATE homes SET seen_at = 0")
    )


async def test_a_conductor_speaks_for_clusters_whose_machine_has_none(store: Store) -> None:
    house = House(store, AtHome())
    cluster = await house.add()
    async with house.conducted(alone=False, home="here/one"):
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
    await house.wish(cluster.uuid, "UPDATE_IN_PROGRESS", workers=3)
    await desert(store)
    elsewhere = House(store, FakeProvider())
    async with elsewhere.conducted(alone=False, home="there/one"):
        while "no conductor" not in ((await house.get(cluster.uuid)).status_reason or ""):
            await store.hints.wait(0.02)
    assert elsewhere.chronicle.takes == []
    shown = await house.get(cluster.uuid)
    assert (
        shown.status_reason == "its machine here has had no conductor since 1970-01-01 00:00:00 UTC"
    )
    async with house.conducted(alone=False, home="here/one"):
        shown = await house.until_status(cluster.uuid, "UPDATE_COMPLETE")
    assert shown.node_count == 3
    assert shown.health.reasons == {}


async def test_a_delete_by_force_ends_though_its_machine_is_burned(store: Store) -> None:
    house = House(store, AtHome())
    cluster = await house.add()
    async with house.conducted(alone=False, home="here/one"):
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
    await desert(store)
    await house.wish(cluster.uuid, "DELETE_IN_PROGRESS")
    await store.clusters.want(cluster.uuid, lambda c: wishes.deleted(c, "root"), LIMITS, by="root")
    elsewhere = House(store, FakeProvider())
    async with elsewhere.conducted(alone=False, home="there/one"):
        async with asyncio.timeout(5):
            while not (left := await store.abandoned.list()):
                await store.hints.wait(0.02)
    assert elsewhere.chronicle.takes == []
    assert [(one.uuid, one.home) for one in left] == [(cluster.uuid, "here/one")]
    assert all(node.address for node in left[0].nodes), "as the row had them"
    with pytest.raises(NotFound):
        await house.get(cluster.uuid)
