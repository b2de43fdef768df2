"""Fencing: a worker that was paused, killed or overtaken changes nothing."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator

import pytest

from moorage.model.cluster import Cluster, ClusterStatus, Health, HealthStatus
from moorage.model.errors import NotFound
from moorage.model.ports import CaKeys
from moorage.model.template import ClusterTemplate
from moorage.store import EVERYTHING, Claim, LostClaim, Store, claims
from tests.unit.store.conftest import CA, a_cluster, added, sized, wanted


class Clock:
    """Stands in for `time` in the modules of the store."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    ours = Clock()
    monkeypatch.setattr(claims, "time", ours)
    monkeypatch.setattr("moorage.store.clusters.time", ours)
    return ours  # type: ignore[return-value]


@pytest.fixture
async def cluster(store: Store, template: ClusterTemplate, clock: Clock) -> Cluster:
    return await added(store, a_cluster(template))


async def taken(store: Store, worker: str = "w", lease: float = 30.0) -> Claim:
    claim = await store.claims.take(worker, lease)
    assert claim is not None
    return claim


def complete(cluster: Cluster) -> Cluster:
    return dataclasses.replace(cluster, status=ClusterStatus.CREATE_COMPLETE)


def six(cluster: Cluster) -> Cluster:
    return sized(cluster, 6)


def deleted(cluster: Cluster) -> Cluster:
    return dataclasses.replace(cluster, status=ClusterStatus.DELETE_IN_PROGRESS)


async def now(store: Store, cluster: Cluster) -> Cluster:
    return await store.clusters.get(cluster.uuid, EVERYTHING)


async def test_a_claim_brings_the_cluster_and_its_key(store: Store, cluster: Cluster) -> None:
    claim = await taken(store)
    assert claim.cluster == cluster
    assert claim.keys == CaKeys(CA)
    assert CA.key.decode() not in repr(claim)


async def test_a_claimed_row_is_nobody_elses_until_the_lease_ends(
    store: Store, cluster: Cluster, clock: Clock
) -> None:
    first = await taken(store, lease=30)
    assert await store.claims.take("other", 30) is None
    assert await store.claims.next_due() == 30
    clock.now += 30
    assert await store.claims.next_due() == 0
    second = await taken(store, "other")
    assert second.token == first.token + 1


async def test_a_paused_workers_late_writes_change_nothing(
    store: Store, cluster: Cluster, clock: Clock
) -> None:
    paused = await taken(store, lease=30)
    await wanted(store, cluster.uuid, deleted)
    clock.now += 31
    await taken(store, "other")
    before = await now(store, cluster)
    with pytest.raises(LostClaim):
        await store.claims.apply(paused, complete(paused.cluster), 0)
    with pytest.raises(LostClaim):
        await store.claims.renew(paused, 30)
    with pytest.raises(LostClaim):
        await store.claims.remove(paused)
    await store.claims.release(paused)
    assert await now(store, cluster) == before
    assert await store.claims.take("third", 30) is None, "the live claim was let go"


async def test_a_claim_ends_with_its_first_write(store: Store, cluster: Cluster) -> None:
    claim = await taken(store)
    assert await store.claims.apply(claim, complete(claim.cluster), 60)
    with pytest.raises(LostClaim):
        await store.claims.apply(claim, claim.cluster, 60)


async def test_a_lease_that_ran_out_untaken_still_holds(
    store: Store, cluster: Cluster, clock: Clock
) -> None:
    claim = await taken(store, lease=30)
    clock.now += 300
    assert await store.claims.apply(claim, complete(claim.cluster), 60)


async def test_renewing_keeps_a_claim(store: Store, cluster: Cluster, clock: Clock) -> None:
    claim = await taken(store, lease=30)
    clock.now += 29
    await store.claims.renew(claim, 30)
    clock.now += 29
    assert await store.claims.take("other", 30) is None


async def test_apply_writes_what_was_seen_and_nothing_else(
    store: Store, cluster: Cluster, clock: Clock
) -> None:
    claim = await taken(store)
    seen = dataclasses.replace(
        complete(claim.cluster),
        status_reason="all nodes are ready",
        health=Health(HealthStatus.HEALTHY, {"master-0": "ok"}),
        api_address="https://10.0.0.1:2376",
        coe_version="20.10",
        container_version="1.6",
        groups=sized(claim.cluster, 1).groups,
        attempts=3,
    )
    meddled = dataclasses.replace(seen, create_timeout=99, name="other", project_id="theirs")
    assert await store.claims.apply(claim, meddled, 15)
    stored = await now(store, cluster)
    assert stored == dataclasses.replace(seen, updated_at=stored.updated_at)
    assert stored.updated_at is not None
    assert await store.claims.next_due() == 15


async def test_a_wish_during_a_turn_is_not_overwritten(
    store: Store, cluster: Cluster, clock: Clock
) -> None:
    claim = await taken(store)
    wished = await wanted(store, cluster.uuid, six)
    seen = dataclasses.replace(
        complete(claim.cluster), status_reason="done", api_address="https://x", attempts=4
    )
    assert not await store.claims.apply(claim, seen, 3600)
    stored = await now(store, cluster)
    assert (stored.status, stored.node_count) == (ClusterStatus.UPDATE_IN_PROGRESS, 6)
    assert (stored.status_reason, stored.deadline, stored.attempts) == (
        wished.status_reason,
        wished.deadline,
        0,
    )
    assert stored.api_address == "https://x"
    again = await taken(store)
    assert again.cluster.node_count == 6
    assert again.generation == claim.generation + 1
    assert await store.claims.apply(again, stored, 15)


async def test_a_wish_for_health_alone_voids_no_verdict(store: Store, cluster: Cluster) -> None:
    claim = await taken(store)
    sick = Health(HealthStatus.UNHEALTHY, {"api": "silent"})
    await wanted(store, cluster.uuid, lambda c: dataclasses.replace(c, health=sick))
    assert (await now(store, cluster)).health == sick
    assert await store.claims.apply(claim, complete(claim.cluster), 15)


async def test_only_a_cluster_being_deleted_is_removed(store: Store, cluster: Cluster) -> None:
    claim = await taken(store)
    with pytest.raises(ValueError, match="CREATE_IN_PROGRESS"):
        await store.claims.remove(claim)
    await wanted(store, cluster.uuid, deleted)
    await store.claims.remove(claim)
    with pytest.raises(NotFound):
        await now(store, cluster)
    with pytest.raises(LostClaim):
        await store.claims.apply(claim, claim.cluster, 0)
    assert await store.claims.next_due() is None


async def test_many_workers_take_each_row_once(
    store: Store, template: ClusterTemplate, clock: Clock
) -> None:
    made = [await added(store, a_cluster(template, f"c{number}")) for number in range(12)]
    found = await asyncio.gather(*(store.claims.take(f"w{n}", 30) for n in range(20)))
    uuids = [claim.cluster.uuid for claim in found if claim is not None]
    assert sorted(uuids) == sorted(cluster.uuid for cluster in made)


async def test_the_row_that_is_due_longest_comes_first(
    store: Store, template: ClusterTemplate, clock: Clock
) -> None:
    for name in ("first", "second"):
        await added(store, a_cluster(template, name))
        clock.now += 1
    assert (await taken(store)).cluster.name == "first"


async def test_a_new_process_breaks_the_claims_of_the_one_before(
    store: Store, cluster: Cluster
) -> None:
    old = await taken(store, lease=3600)
    assert await store.claims.break_all() == 1
    with pytest.raises(LostClaim):
        await store.claims.apply(old, old.cluster, 0)
    assert (await taken(store)).cluster == cluster


async def test_a_hastened_row_is_due_now_unless_it_is_claimed(
    store: Store, cluster: Cluster
) -> None:
    claim = await taken(store)
    assert not await store.claims.hasten(cluster.uuid)
    await store.claims.apply(claim, claim.cluster, 3600)
    assert await store.claims.take("other", 30) is None
    assert await store.claims.hasten(cluster.uuid)
    assert not await store.claims.hasten(cluster.uuid), "it is due already"
    assert (await taken(store)).cluster.uuid == cluster.uuid
    assert not await store.claims.hasten("nothing")


async def test_a_released_claim_is_free_at_once(store: Store, cluster: Cluster) -> None:
    await store.claims.release(await taken(store))
    assert (await taken(store, "other")).cluster == cluster


async def test_all_rows_are_hastened_but_those_that_are_claimed(
    store: Store, cluster: Cluster, template: ClusterTemplate, clock: Clock
) -> None:
    other = await added(store, a_cluster(template, name="other"))
    for _ in range(2):
        claim = await taken(store)
        await store.claims.apply(claim, complete(claim.cluster), 300)
    assert await store.claims.next_due() == 300
    assert await store.claims.hasten_all() == 2
    claim = await taken(store)
    assert await store.claims.hasten_all() == 0
    assert {claim.cluster.uuid, (await taken(store, "v")).cluster.uuid} == {
        cluster.uuid,
        other.uuid,
    }


async def test_what_was_seen_is_noted_and_the_claim_goes_on(
    store: Store, cluster: Cluster, clock: Clock
) -> None:
    claim = await taken(store)
    unwell = Health(HealthStatus.UNHEALTHY, {"worker-0": "stopped"})
    seen = dataclasses.replace(claim.cluster, health=unwell, status_reason="not to be written")
    await store.claims.note(claim, seen)
    shown = await now(store, cluster)
    assert (shown.health, shown.status_reason) == (unwell, cluster.status_reason)
    assert await store.claims.apply(claim, complete(claim.cluster), 60)


async def test_a_paused_worker_notes_nothing(store: Store, cluster: Cluster, clock: Clock) -> None:
    paused = await taken(store, "paused")
    clock.now += 31
    await taken(store, "other")
    unwell = Health(HealthStatus.UNHEALTHY, {"worker-0": "stopped"})
    with pytest.raises(LostClaim):
        await store.claims.note(paused, dataclasses.replace(paused.cluster, health=unwell))
    assert (await now(store, cluster)).health == cluster.health


async def test_what_falls_due_later_than_it_can_is_brought_back(
    store: Store, cluster: Cluster, template: ClusterTemplate, clock: Clock
) -> None:
    """Another clock wrote it, or this one before it was set back."""
    claim = await taken(store)
    await store.claims.apply(claim, complete(claim.cluster), 300)
    await added(store, a_cluster(template, name="other"))
    held = await taken(store)
    assert await store.claims.recall(600, 30) == 0
    clock.now -= 7200
    assert await store.claims.recall(600, 30) == 2
    assert await store.claims.recall(600, 30) == 0
    assert (await taken(store)).cluster.uuid == cluster.uuid
    assert await store.claims.take("v", 30) is None, "the claim was let go"
    await store.claims.renew(held, 30)
    clock.now += 31
    assert await store.claims.next_due() == 0
