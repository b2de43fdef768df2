from __future__ import annotations

import asyncio
import dataclasses
import datetime

import pytest

from moorage.model.cluster import Cluster, Health, HealthStatus
from moorage.model.errors import Conflict, NotFound, QuotaExceeded
from moorage.model.page import Page
from moorage.model.quota import Resource
from moorage.model.template import ClusterTemplate
from moorage.store import EVERYTHING, Scope, Store
from tests.unit.store.conftest import a_cluster, added, sized, wanted

OURS, THEIRS = Scope("ours"), Scope("theirs")


async def test_a_cluster_comes_back_as_it_was_stored(
    store: Store, template: ClusterTemplate
) -> None:
    deadline = datetime.datetime(2026, 2, 28, 23, 59, 59, 999999, tzinfo=datetime.UTC)
    cluster = a_cluster(
        template,
        labels={"ключ": "värde"},
        options={"keypair": "k", "docker_volume_size": 3},
        deadline=deadline,
        status_reason="asked for",
        health=Health(HealthStatus.UNHEALTHY, {"api": "silent"}),
    )
    stored = await added(store, cluster)
    assert stored == dataclasses.replace(
        cluster, id=stored.id, created_at=stored.created_at, groups=stored.groups
    )
    assert [group.nodes for group in stored.groups] == [("master-0",), ("worker-0", "worker-1")]
    assert stored.id > 0
    assert await store.clusters.get(cluster.uuid, OURS) == stored
    assert await store.clusters.get("one", OURS) == stored
    assert await store.clusters.list(OURS, Page()) == [stored]


async def test_another_project_finds_nothing(store: Store, template: ClusterTemplate) -> None:
    ours = await added(store, a_cluster(template))
    for ident in (ours.uuid, ours.name):
        with pytest.raises(NotFound):
            await store.clusters.get(ident, THEIRS)
    assert await store.clusters.list(THEIRS, Page()) == []
    assert (await store.quotas.used("theirs"))[Resource.CLUSTER] == 0
    assert await store.clusters.list(EVERYTHING, Page()) == [ours]


async def test_of_two_clusters_of_one_name_one_is_made(
    store: Store, template: ClusterTemplate
) -> None:
    results = await asyncio.gather(
        *(added(store, a_cluster(template)) for _ in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Cluster) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 4
    await added(store, a_cluster(template, project_id="theirs"))
    with pytest.raises(Conflict, match="uuid"):
        await store.clusters.get("one", EVERYTHING)


async def test_a_race_for_the_last_cluster_has_one_winner(
    store: Store, template: ClusterTemplate
) -> None:
    limits = {Resource.CLUSTER: 3}
    results = await asyncio.gather(
        *(added(store, a_cluster(template, f"c{n}"), limits) for n in range(10)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Cluster) for result in results) == 3
    refusals = [result for result in results if isinstance(result, QuotaExceeded)]
    assert len(refusals) == 7
    assert "3 clusters" in refusals[0].reason


async def test_a_race_for_the_last_nodes_never_passes_the_quota(
    store: Store, template: ClusterTemplate
) -> None:
    limits = {Resource.NODE: 10}
    one = await added(store, a_cluster(template, "grows"), limits)
    await added(store, a_cluster(template, "theirs", 900, project_id="theirs"))

    def grown(cluster: Cluster) -> Cluster:
        return sized(cluster, cluster.node_count + 2)

    results = await asyncio.gather(
        *(added(store, a_cluster(template, f"c{n}"), limits) for n in range(4)),
        *(wanted(store, one.uuid, grown, limits) for _ in range(4)),
        return_exceptions=True,
    )
    assert all(isinstance(result, Cluster | QuotaExceeded) for result in results)
    assert (await store.quotas.used("ours"))[Resource.NODE] in {9, 10}


async def test_shrinking_is_allowed_over_the_quota(store: Store, template: ClusterTemplate) -> None:
    cluster = await added(store, a_cluster(template, workers=9))
    tight = {Resource.CLUSTER: 1, Resource.NODE: 2}
    await wanted(store, cluster.uuid, lambda c: sized(c, 5), tight)
    with pytest.raises(QuotaExceeded, match="2 nodes"):
        await wanted(store, cluster.uuid, lambda c: sized(c, 6), tight)
    assert (await store.clusters.get(cluster.uuid, OURS)).node_count == 5


async def test_a_wish_that_changes_nothing_writes_nothing(
    store: Store, template: ClusterTemplate
) -> None:
    cluster = await added(store, a_cluster(template))
    assert await wanted(store, cluster.uuid, lambda c: c) == cluster
    claim = await store.claims.take("w", 30)
    assert claim is not None
    assert claim.generation == 1


async def test_a_wish_that_raises_leaves_the_row_as_it_was(
    store: Store, template: ClusterTemplate
) -> None:
    cluster = await added(store, a_cluster(template))

    def refuse(cluster: Cluster) -> Cluster:
        raise Conflict("no")

    with pytest.raises(Conflict):
        await wanted(store, cluster.uuid, refuse)
    with pytest.raises(NotFound):
        await wanted(store, "nothing", lambda c: c)
    assert await store.clusters.get(cluster.uuid, OURS) == cluster


async def test_parallel_wishes_are_serialised(store: Store, template: ClusterTemplate) -> None:
    cluster = await added(store, a_cluster(template, workers=1))
    await asyncio.gather(
        *(wanted(store, cluster.uuid, lambda c: sized(c, c.node_count + 1)) for _ in range(10))
    )
    assert (await store.clusters.get(cluster.uuid, OURS)).node_count == 11


async def test_a_cluster_needs_its_template(store: Store, template: ClusterTemplate) -> None:
    await store.templates.remove(template.uuid)
    with pytest.raises(NotFound, match="template"):
        await added(store, a_cluster(template))


async def test_a_template_and_a_cluster_of_it_never_cross(
    store: Store, template: ClusterTemplate
) -> None:
    made, removed = await asyncio.gather(
        added(store, a_cluster(template)),
        store.templates.remove(template.uuid),
        return_exceptions=True,
    )
    if isinstance(made, Cluster):
        assert isinstance(removed, Conflict)
    else:
        assert isinstance(made, NotFound)
        assert removed is None


async def test_a_template_that_went_meanwhile_is_no_wish(
    store: Store, template: ClusterTemplate
) -> None:
    cluster = await added(store, a_cluster(template))
    with pytest.raises(NotFound, match="template 4711 could not be found"):
        await wanted(
            store, cluster.uuid, lambda c: dataclasses.replace(c, template_uuid="4711", attempts=1)
        )
    assert await store.clusters.get(cluster.uuid, EVERYTHING) == cluster
