"""Clusters that are at home somewhere: who takes them, and who speaks for them."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable

import pytest

from moorage.model.cluster import Cluster, ClusterStatus, HealthStatus
from moorage.model.errors import NotFound
from moorage.model.orphan import Abandoned
from moorage.model.page import Page
from moorage.model.template import ClusterTemplate
from moorage.services import wishes
from moorage.store import EVERYTHING, Claim, LostClaim, Store
from moorage.store.tables import Instant
from tests.unit.store.conftest import a_cluster, added, wanted

HERE, THERE = {"local": "here/one"}, {"local": "there/one"}


async def taken(store: Store) -> Claim:
    claim = await store.claims.take("w", 30)
    assert claim is not None
    return claim


async def done(store: Store, status: str = "CREATE_COMPLETE", due_in: float = 0.0) -> None:
    claim = await taken(store)
    after = dataclasses.replace(claim.cluster, status=ClusterStatus(status))
    await store.claims.apply(claim, after, due_in)


@pytest.fixture
async def cluster(store: Store, template: ClusterTemplate) -> Cluster:
    """At home at here/one, complete, and due."""
    store.claims.settle(HERE)
    cluster = await added(store, a_cluster(template))
    await done(store)
    return await store.clusters.get(cluster.uuid, EVERYTHING)


@pytest.fixture
async def elsewhere(other: Store) -> Store:
    other.claims.settle(THERE)
    await other.homes.beat("there/one")
    return other


@pytest.fixture
async def deserted(store: Store, cluster: Cluster, raw: Callable[[str], None]) -> None:
    await store.homes.beat("here/one")
    long_ago = Instant.now() - datetime.timedelta(minutes=5)
    raw(f"UPDATE homes SET seen_at = {int(long_ago.timestamp() * 1e6)} WHERE name = 'here/one'")


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("backend", ["postgresql"])
async def test_a_cluster_is_taken_at_its_home_only(
    store: Store, elsewhere: Store, cluster: Cluster
) -> None:
    assert await elsewhere.claims.next_due() is None
    assert await elsewhere.claims.take("w", 30) is None
    assert await store.claims.next_due() == 0
    assert (await taken(store)).cluster == cluster


@pytest.mark.parametrize("backend", ["postgresql"])
async def test_a_cluster_that_is_at_home_nowhere_is_taken_anywhere(
    store: Store, elsewhere: Store, template: ClusterTemplate
) -> None:
    store.claims.settle(HERE)
    free = await added(store, a_cluster(template, provider="openstack"))
    await done(store)
    assert (await taken(elsewhere)).cluster.uuid == free.uuid
    assert await store.homes.of(free.uuid) is None


async def test_of_two_homes_the_row_that_is_due_longest_comes_first(
    store: Store, template: ClusterTemplate, raw: Callable[[str], None]
) -> None:
    store.claims.settle({"local": "here/one", "baremetal": "rack/one"})
    for name, provider in (("a", "local"), ("b", "baremetal"), ("c", "other")):
        await added(store, a_cluster(template, name, provider=provider))
        await done(store, due_in=3600)
    for number, name in enumerate("abc"):
        raw(f"UPDATE clusters SET due_at = {number} WHERE name = '{name}'")
    names = [(await taken(store)).cluster.name for _ in range(3)]
    assert names == ["a", "b", "c"]
    assert await store.claims.take("w", 30) is None


async def test_the_only_process_conducts_every_cluster(store: Store, cluster: Cluster) -> None:
    """As after a restore elsewhere: its homes are those of another machine."""
    store.claims.settle({})
    assert await store.claims.take("w", 30) is None
    await store.claims.break_all()
    assert (await taken(store)).cluster == cluster


async def test_only_the_claims_of_one_place_are_broken(
    store: Store, template: ClusterTemplate
) -> None:
    for name in ("a", "b"):
        await added(store, a_cluster(template, name))
    ours = await store.claims.take("here/one 17-ab", 3600)
    theirs = await store.claims.take("here/one2 17-ab", 3600)
    assert ours
    assert theirs
    assert await store.claims.break_of("here/one ") == 1
    await store.claims.renew(theirs, 3600)
    with pytest.raises(LostClaim):
        await store.claims.renew(ours, 3600)
    assert (await taken(store)).cluster == ours.cluster


async def test_a_home_without_a_conductor_is_said_to_the_tenant(
    store: Store, cluster: Cluster, deserted: None
) -> None:
    assert await store.homes.speak_for_deserted() == 1
    shown = await store.clusters.get(cluster.uuid, EVERYTHING)
    assert shown.health.status is HealthStatus.UNKNOWN
    assert shown.health.reasons["cluster"].startswith("its machine here has had no conductor since")
    assert (shown.status, shown.status_reason) == (cluster.status, cluster.status_reason)
    assert await store.homes.speak_for_deserted() == 0, "it is said once"
    home = await store.homes.of(cluster.uuid)
    assert home is not None
    assert home.deserted
    assert str(home) == shown.health.reasons["cluster"]


@pytest.mark.parametrize("status", ["UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS"])
async def test_what_is_asked_of_a_deserted_home_does_not_hang_in_silence(
    store: Store, cluster: Cluster, deserted: None, status: str
) -> None:
    await store.homes.speak_for_deserted()
    soon = Instant.now() + datetime.timedelta(hours=1)

    def wish(before: Cluster) -> Cluster:
        return dataclasses.replace(
            before, status=ClusterStatus(status), status_reason="asked", deadline=soon
        )

    await wanted(store, cluster.uuid, wish)
    assert await store.homes.speak_for_deserted() == 1
    shown = await store.clusters.get(cluster.uuid, EVERYTHING)
    assert shown.status == status
    assert "no conductor since" in (shown.status_reason or "")

    await wanted(store, cluster.uuid, lambda c: dataclasses.replace(c, deadline=Instant.now()))
    assert await store.homes.speak_for_deserted() == 1
    shown = await store.clusters.get(cluster.uuid, EVERYTHING)
    assert shown.status == status.replace("IN_PROGRESS", "FAILED")
    assert await store.homes.speak_for_deserted() == 0


async def forced(store: Store, uuid: str) -> None:
    await wanted(store, uuid, lambda c: wishes.deleted(c, "root"))


async def test_a_delete_by_force_at_a_deserted_home_ends_with_a_record(
    store: Store, cluster: Cluster, deserted: None
) -> None:
    await forced(store, cluster.uuid)
    (left,) = await store.homes.end_forced()
    with pytest.raises(NotFound):
        await store.clusters.get(cluster.uuid, EVERYTHING)
    assert await store.abandoned.list() == [left]
    assert (left.uuid, left.home, left.forced_by) == (cluster.uuid, "here/one", "root")
    assert left.reason.startswith("its machine here has had no conductor since")
    assert {(n.name, n.state) for n in left.nodes} == {
        ("master-0", "unknown"),
        ("worker-0", "unknown"),
        ("worker-1", "unknown"),
    }
    story = await store.events.list(cluster.uuid, EVERYTHING, Page())
    assert story[-1].what.startswith("abandoned: may remain with local: master-0, worker-0")
    assert not story[-1].ok
    assert set((await store.quotas.used("ours")).values()) == {0}
    assert await store.homes.end_forced() == []


async def test_one_that_failed_at_its_deadline_ends_as_well(
    store: Store, cluster: Cluster, deserted: None
) -> None:
    await wanted(store, cluster.uuid, wishes.deleted)
    await wanted(store, cluster.uuid, lambda c: dataclasses.replace(c, deadline=Instant.now()))
    await store.homes.speak_for_deserted()
    assert (await store.clusters.get(cluster.uuid, EVERYTHING)).status == "DELETE_FAILED"
    assert await store.homes.end_forced() == [], "nobody forced it"
    await forced(store, cluster.uuid)
    assert len(await store.homes.end_forced()) == 1


async def test_what_is_forced_where_somebody_lives_is_tried_there(
    store: Store, cluster: Cluster, deserted: None
) -> None:
    await forced(store, cluster.uuid)
    await taken(store)
    assert await store.homes.end_forced() == [], "it is claimed"
    await store.claims.break_of("w")
    await store.homes.beat("here/one")
    assert await store.homes.end_forced() == []
    assert (await taken(store)).cluster.forced_by == "root"


async def test_what_a_conductor_gives_up_has_its_home_in_the_record(
    store: Store, cluster: Cluster, deserted: None
) -> None:
    """Until one process is all that there is, which has everything."""
    await forced(store, cluster.uuid)
    claim = await taken(store)
    record = Abandoned.of(claim.cluster, (), "busy", Instant.now())
    await store.claims.abandon(claim, record)
    assert await store.abandoned.list() == [dataclasses.replace(record, home="here/one")]
    await store.claims.break_all()
    assert await store.abandoned.list() == [record]


async def test_a_living_home_speaks_for_itself(
    store: Store, cluster: Cluster, deserted: None
) -> None:
    await store.homes.beat("here/one")
    assert await store.homes.speak_for_deserted() == 0
    assert [home.deserted for home in await store.homes.list()] == [False]


async def test_a_claimed_cluster_is_left_to_its_conductor(
    store: Store, cluster: Cluster, deserted: None
) -> None:
    await taken(store)
    assert await store.homes.speak_for_deserted() == 0


async def test_a_home_is_forgotten_when_nothing_is_there(
    store: Store, cluster: Cluster, raw: Callable[[str], None]
) -> None:
    for name in ("here/one", "empty/one"):
        await store.homes.beat(name)
    raw("UPDATE homes SET seen_at = 0")
    await store.homes.beat("new/one")
    assert [home.name for home in await store.homes.list()] == ["here/one", "new/one"]
