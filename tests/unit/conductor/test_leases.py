"""A conductor that was paused past its leases, and one beside machines without a conductor."""

from __future__ import annotations

import asyncio

import pytest

from moorage.conductor import loop
from moorage.model.errors import NotFound
from moorage.providers.fake import FakeProvider, Hangs
from moorage.services import wishes
from moorage.store import Store
from tests.unit.conductor.house import LIMITS, House


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The one entry is the time, on the conductor's clock."""
    now = [1000.0]
    monkeypatch.setattr(loop, "_clock", lambda: now[0])
    return now


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
