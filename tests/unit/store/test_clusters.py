from __future__ import annotations

import asyncio
import dataclasses
import datetime

import pytest

from moorage.model.cluster import Cluster, ClusterStatus, Health, HealthStatus
from moorage.model.errors import Conflict, NotFound, QuotaExceeded
from moorage.model.page import Page
from moorage.model.template import ClusterTemplate
from moorage.store import EVERYTHING, Limits, Scope, Store, Usage
from tests.unit.store.conftest import CA, PLENTY, a_cluster

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
        master_addresses=("10.0.0.1",),
    )
    stored = await store.clusters.add(cluster, CA, PLENTY)
    assert stored == dataclasses.replace(cluster, id=stored.id, created_at=stored.created_at)
    assert stored.id > 0
    assert await store.clusters.get(cluster.uuid, OURS) == stored
    assert await store.clusters.get("one", OURS) == stored
    assert await store.clusters.list(OURS, Page()) == [stored]


async def test_another_project_finds_nothing(store: Store, template: ClusterTemplate) -> None:
    ours = await store.clusters.add(a_cluster(template), CA, PLENTY)
    for ident in (ours.uuid, ours.name):
        with pytest.raises(NotFound):
            await store.clusters.get(ident, THEIRS)
    assert await store.clusters.list(THEIRS, Page()) == []
    assert await store.clusters.usage(THEIRS) == Usage(0, 0)
    assert await store.clusters.list(EVERYTHING, Page()) == [ours]


async def test_of_two_clusters_of_one_name_one_is_made(
    store: Store, template: ClusterTemplate
) -> None:
    results = await asyncio.gather(
        *(store.clusters.add(a_cluster(template), CA, PLENTY) for _ in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Cluster) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 4
    await store.clusters.add(a_cluster(template, project_id="theirs"), CA, PLENTY)
    with pytest.raises(Conflict, match="uuid"):
        await store.clusters.get("one", EVERYTHING)


async def test_a_race_for_the_last_cluster_has_one_winner(
    store: Store, template: ClusterTemplate
) -> None:
    limits = Limits(clusters=3, nodes=1000)
    results = await asyncio.gather(
        *(store.clusters.add(a_cluster(template, f"c{n}"), CA, limits) for n in range(10)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Cluster) for result in results) == 3
    refusals = [result for result in results if isinstance(result, QuotaExceeded)]
    assert len(refusals) == 7
    assert "3 clusters" in refusals[0].reason


async def test_a_race_for_the_last_nodes_never_passes_the_quota(
    store: Store, template: ClusterTemplate
) -> None:
    limits = Limits(clusters=100, nodes=10)
    one = await store.clusters.add(a_cluster(template, "grows"), CA, limits)
    await store.clusters.add(
        a_cluster(template, "theirs", project_id="theirs", node_count=900), CA, PLENTY
    )

    def grown(cluster: Cluster) -> Cluster:
        return dataclasses.replace(cluster, node_count=cluster.node_count + 2)

    results = await asyncio.gather(
        *(store.clusters.add(a_cluster(template, f"c{n}"), CA, limits) for n in range(4)),
        *(store.clusters.want(one.uuid, grown, limits) for _ in range(4)),
        return_exceptions=True,
    )
    assert all(isinstance(result, Cluster | QuotaExceeded) for result in results)
    assert (await store.clusters.usage(OURS)).nodes in {9, 10}


async def test_shrinking_is_allowed_over_the_quota(store: Store, template: ClusterTemplate) -> None:
    cluster = await store.clusters.add(a_cluster(template, node_count=9), CA, PLENTY)
    tight = Limits(clusters=1, nodes=2)
    await store.clusters.want(cluster.uuid, lambda c: dataclasses.replace(c, node_count=5), tight)
    with pytest.raises(QuotaExceeded, match="2 nodes"):
        await store.clusters.want(
            cluster.uuid, lambda c: dataclasses.replace(c, node_count=6), tight
        )
    assert (await store.clusters.get(cluster.uuid, OURS)).node_count == 5


async def test_a_wish_that_changes_nothing_writes_nothing(
    store: Store, template: ClusterTemplate
) -> None:
    cluster = await store.clusters.add(a_cluster(template), CA, PLENTY)
    assert await store.clusters.want(cluster.uuid, lambda c: c) == cluster
    claim = await store.claims.take("w", 30)
    assert claim is not None
    assert claim.generation == 1


async def test_a_wish_that_raises_leaves_the_row_as_it_was(
    store: Store, template: ClusterTemplate
) -> None:
    cluster = await store.clusters.add(a_cluster(template), CA, PLENTY)

    def refuse(cluster: Cluster) -> Cluster:
        raise Conflict("no")

    with pytest.raises(Conflict):
        await store.clusters.want(cluster.uuid, refuse)
    with pytest.raises(NotFound):
        await store.clusters.want("nothing", lambda c: c)
    assert await store.clusters.get(cluster.uuid, OURS) == cluster


async def test_a_wish_writes_only_what_may_be_wished(
    store: Store, template: ClusterTemplate
) -> None:
    cluster = await store.clusters.add(a_cluster(template), CA, PLENTY)
    after = await store.clusters.want(
        cluster.uuid,
        lambda c: dataclasses.replace(
            c, project_id="theirs", name="x", node_count=4, status=ClusterStatus.UPDATE_IN_PROGRESS
        ),
    )
    stored = await store.clusters.get(cluster.uuid, OURS)
    assert stored == after
    assert (stored.name, stored.node_count) == ("one", 4)


async def test_parallel_wishes_are_serialised(store: Store, template: ClusterTemplate) -> None:
    cluster = await store.clusters.add(a_cluster(template, node_count=1), CA, PLENTY)
    await asyncio.gather(
        *(
            store.clusters.want(
                cluster.uuid, lambda c: dataclasses.replace(c, node_count=c.node_count + 1)
            )
            for _ in range(10)
        )
    )
    assert (await store.clusters.get(cluster.uuid, OURS)).node_count == 11


async def test_a_cluster_needs_its_template(store: Store, template: ClusterTemplate) -> None:
    await store.templates.remove(template.uuid)
    with pytest.raises(NotFound, match="template"):
        await store.clusters.add(a_cluster(template), CA, PLENTY)


async def test_a_template_and_a_cluster_of_it_never_cross(
    store: Store, template: ClusterTemplate
) -> None:
    added, removed = await asyncio.gather(
        store.clusters.add(a_cluster(template), CA, PLENTY),
        store.templates.remove(template.uuid),
        return_exceptions=True,
    )
    assert isinstance(added, Cluster)
    assert isinstance(removed, Conflict)
