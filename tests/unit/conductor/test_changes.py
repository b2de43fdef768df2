"""Upgrades, rotations, groups and rollbacks, from the wish to the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from moorage.drivers.fake import FakeDriver
from moorage.model.cluster import Cluster
from moorage.model.errors import NoRoom
from moorage.model.node import Flavor, NodeRef, NodeSpec, ObservedNode
from moorage.model.page import Page
from moorage.model.ports import KeyPair
from moorage.model.template import ClusterTemplate
from moorage.providers.fake import FakeProvider
from moorage.services import wishes
from moorage.store import EVERYTHING, Store
from moorage.trust.seal import Seal
from tests import made
from tests.unit.conductor.house import LIMITS, House

BIG = Flavor("big", 2, 128, 1, 100)
FLAVORS = {"tiny": made.TINY, "big": BIG}


class Renewals(FakeProvider):
    """Notes which nodes are renewed, and refuses to renew those in `full`."""

    def __init__(self) -> None:
        super().__init__()
        self.renewed: list[str] = []
        self.full: set[str] = set()

    def make(self, spec: NodeSpec) -> ObservedNode:
        there = {node.name: node for node in self._seen(spec.owner)}
        if spec.name in there and there[spec.name].revision != spec.revision:
            if spec.name in self.full:
                raise NoRoom(f"there is no room for {spec.name} in its new size")
            self.renewed.append(spec.name)
        return super().make(spec)

    def _seen(self, owner: str) -> list[ObservedNode]:
        return [node.seen for node in self._nodes.get(owner, {}).values()]

    def revisions(self, owner: str) -> set[str]:
        return {node.revision for node in self._seen(owner)}


async def wish(house: House, uuid: str, wanted: Callable[[Cluster], Cluster]) -> Cluster:
    return await house.store.clusters.want(uuid, wanted, LIMITS, by="alice")


def template(of: Cluster, *, flavor: str) -> ClusterTemplate:
    """The cluster's own, or another in everything but the row that it stands in."""
    return ClusterTemplate(of.template_uuid, "p", "u", flavor, "fake", flavor, flavor)


def upgrade(of: Cluster, flavor: str, former: str, size: int = 1) -> Callable[[Cluster], Cluster]:
    new, old = template(of, flavor=flavor), template(of, flavor=former)
    formers = {of.template_uuid: old}
    return lambda c: wishes.upgraded(c, new, formers, FLAVORS, batch_size=size)


async def started(house: House, workers: int = 4) -> Cluster:
    cluster = await house.add(workers=workers)
    return await house.until_status(cluster.uuid, "CREATE_COMPLETE")


async def test_an_upgrade_goes_batch_by_batch_the_master_first(store: Store) -> None:
    house = House(store, provider := Renewals())
    async with house.conducted():
        cluster = await started(house)
        await wish(house, cluster.uuid, upgrade(cluster, "big", "tiny", 2))
        after = await house.until_status(cluster.uuid, "UPDATE_COMPLETE")
    assert provider.renewed == ["master-0", "worker-0", "worker-1", "worker-2", "worker-3"]
    assert provider.revisions(cluster.uuid) == {g.revision for g in after.groups}
    assert {g.status for g in after.groups} == {"UPDATE_COMPLETE"}
    events = await store.events.list(cluster.uuid, EVERYTHING, Page())
    turns: dict[str | None, set[str]] = {}
    for event in events:
        if event.what.startswith("ensure-node") and event.turn is not None:
            turns.setdefault(event.turn, set()).add(event.what.removeprefix("ensure-node "))
    assert list(turns.values())[1:] == [
        {"master-0"},
        {"worker-0", "worker-1"},
        {"worker-2", "worker-3"},
    ]


async def test_a_batch_that_fails_stops_and_can_go_on_or_back(store: Store) -> None:
    house = House(store, provider := Renewals())
    provider.full = {"worker-1"}
    async with house.conducted():
        cluster = await started(house)
        former = provider.revisions(cluster.uuid)
        await wish(house, cluster.uuid, upgrade(cluster, "big", "tiny"))
        failed = await house.until_status(cluster.uuid, "UPDATE_FAILED")
        assert "there is no room for worker-1 in its new size" in (failed.status_reason or "")
        assert provider.renewed == ["master-0", "worker-0"]

        await store.claims.hasten(cluster.uuid)
        held = await house.until(cluster.uuid, lambda c: "on hold" in (c.status_reason or ""))
        assert "3 nodes still as before (worker-1, worker-2, worker-3)" in str(held.status_reason)
        assert provider.renewed == ["master-0", "worker-0"]

        provider.full = set()
        await wish(house, cluster.uuid, upgrade(cluster, "tiny", "big"))
        await house.until_status(cluster.uuid, "UPDATE_COMPLETE")
        assert provider.revisions(cluster.uuid) == former
        assert provider.renewed == ["master-0", "worker-0"] * 2

        provider.full = {"worker-2"}
        await wish(house, cluster.uuid, upgrade(cluster, "big", "tiny"))
        await house.until_status(cluster.uuid, "UPDATE_FAILED")
        provider.full = set()
        await wish(house, cluster.uuid, upgrade(cluster, "big", "big"))
        after = await house.until_status(cluster.uuid, "UPDATE_COMPLETE")
    assert provider.revisions(cluster.uuid) == {g.revision for g in after.groups}


@pytest.mark.parametrize(
    "other",
    [
        lambda c: wishes.resized(c, None, 5),
        wishes.with_new_credentials,
        lambda c: wishes.with_changed_group(
            c, "default-worker", dataclasses.replace(c.default_worker, max_node_count=9)
        ),
    ],
)
async def test_another_wish_is_no_leave_to_go_on_with_what_is_on_hold(
    store: Store, other: Callable[[Cluster], Cluster]
) -> None:
    house = House(store, provider := Renewals())
    provider.full = {"worker-1"}
    async with house.conducted():
        cluster = await started(house)
        await wish(house, cluster.uuid, upgrade(cluster, "big", "tiny"))
        await house.until_status(cluster.uuid, "UPDATE_FAILED")
        provider.full = set()
        await wish(house, cluster.uuid, other)
        held = await house.until_status(cluster.uuid, "UPDATE_FAILED")
        assert "all else is as wanted" in (held.status_reason or "")
        assert provider.renewed == ["master-0", "worker-0"]
        await wish(house, cluster.uuid, upgrade(cluster, "big", "big"))
        await house.until_status(cluster.uuid, "UPDATE_COMPLETE")
    assert sorted(provider.renewed) == ["master-0", *(f"worker-{n}" for n in range(4))]


async def test_a_removed_node_goes_though_another_is_wanted_at_once(store: Store) -> None:
    house = House(store, provider := FakeProvider())
    async with house.conducted():
        cluster = await started(house, 3)
    await wish(house, cluster.uuid, lambda c: wishes.resized(c, None, 2, ["worker-0"]))
    await wish(house, cluster.uuid, lambda c: wishes.resized(c, None, 3))
    async with house.conducted():
        after = await house.until_status(cluster.uuid, "UPDATE_COMPLETE")
    assert after.default_worker.nodes == ("worker-1", "worker-2", "worker-3")
    assert after.default_worker.removed == ()
    there = {node.name for node in await provider.observe(cluster.uuid)}
    assert there == {"master-0", *after.default_worker.nodes}


async def test_a_ca_is_changed_phase_by_phase(store: Store) -> None:
    house = House(store)
    async with house.conducted():
        cluster = await started(house, 1)
        coming = KeyPair(b"coming certificate", b"coming key")
        await store.clusters.want(
            cluster.uuid, wishes.rotating_ca, LIMITS, by="alice", coming=coming
        )
        await house.until_status(cluster.uuid, "UPDATE_COMPLETE")
    phases = [c.rotation for c, _ in house.chronicle.applied][-3:]
    assert phases == ["serve", None, None]
    keys = await store.clusters.ca(cluster.uuid)
    assert (keys.current, keys.coming, keys.rotation) == (coming, None, None)


async def test_groups_come_and_go(store: Store) -> None:
    house = House(store, provider := FakeProvider())
    async with house.conducted():
        cluster = await started(house, 1)
        await wish(house, cluster.uuid, lambda c: wishes.with_group(c, made.group("gpu", 2)))
        grown = await house.until_status(cluster.uuid, "UPDATE_COMPLETE")
        assert grown.groups[2].status == "CREATE_COMPLETE"
        assert set(grown.groups[2].addresses) == {"gpu-0", "gpu-1"}
        await wish(house, cluster.uuid, lambda c: wishes.without_group(c, "gpu"))
        await house.until(cluster.uuid, lambda c: len(c.groups) == 2)
        await house.until_status(cluster.uuid, "UPDATE_COMPLETE")
    assert {n.name for n in await provider.observe(cluster.uuid)} == {"master-0", "worker-0"}


class NoNewNodes(FakeProvider):
    """Has no room for any node beyond the first `room`."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def make(self, spec: NodeSpec) -> ObservedNode:
        there = {node.seen.name for node in self._nodes.get(spec.owner, {}).values()}
        if spec.name not in there and len(there) >= self.room:
            raise NoRoom("the machine is full")
        return super().make(spec)


async def test_an_update_that_fails_rolls_back_where_asked(store: Store) -> None:
    house = House(store, NoNewNodes(4))
    async with house.conducted():
        cluster = await started(house, 2)
        await wish(
            house,
            cluster.uuid,
            lambda c: wishes.with_way_back(c, wishes.resized(c, None, 6), rollback=True),
        )
        after = await house.until_status(cluster.uuid, "ROLLBACK_COMPLETE")
        assert (after.node_count, after.fallback) == (2, None)
        assert len(after.node_addresses) == 2
        await wish(house, cluster.uuid, lambda c: wishes.resized(c, None, 6))
        after = await house.until_status(cluster.uuid, "UPDATE_FAILED")
        assert after.node_count == 6


async def test_a_cluster_whose_ca_can_not_be_opened_says_so_and_can_be_deleted(
    store: Store,
) -> None:
    house = House(store, provider := FakeProvider())
    async with house.conducted():
        cluster = await started(house, 1)
    # Another key than the one that sealed it, as after the loss of the file.
    lost = Seal([b"x" * 32])
    for part in (store.clusters, store.claims._claims):  # type: ignore[attr-defined]
        part._seal = lost
    provider.lose(NodeRef(cluster.uuid, "worker-0"))
    await store.claims.hasten(cluster.uuid)
    async with house.conducted():
        said = await house.until(cluster.uuid, lambda c: c.attempts == 1)
        assert "the key file that sealed it is missing" in (said.status_reason or "")
        await wish(house, cluster.uuid, wishes.deleted)
        await house.until_gone(cluster.uuid)
    assert provider.owners() == set()


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_COMPLETE"])
async def test_a_node_of_an_unknown_revision_is_left_alone(store: Store, status: str) -> None:
    """As of nodes that were made before there were revisions."""
    house = House(store, provider := Renewals(), FakeDriver())
    async with house.conducted():
        cluster = await started(house, 1)
        for node in provider._nodes[cluster.uuid].values():
            node.seen = dataclasses.replace(node.seen, revision="")
        await store.claims.hasten(cluster.uuid)
        await house.chronicle.until(lambda: len(house.chronicle.applied) > 2)
    assert provider.renewed == []
