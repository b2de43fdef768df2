"""Everything that a cluster can be comes back; and its CA, while it is changed for another."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from moorage.model.cluster import Cluster, ClusterStatus, Health, HealthStatus, Rotation
from moorage.model.errors import Conflict
from moorage.model.node import Flavor
from moorage.model.nodegroup import Taint
from moorage.model.page import Page
from moorage.model.ports import CaKeys, KeyPair
from moorage.model.template import ClusterTemplate
from moorage.store import EVERYTHING, Claim, Store
from moorage.trust.seal import Seal, SealBroken
from tests import made
from tests.unit.store.conftest import CA, PLENTY, a_cluster, added, sized, wanted

COMING = KeyPair(b"coming public", b"coming secret")
THIRD = KeyPair(b"third public", b"third secret")
SOME_TIME = datetime.datetime(2028, 2, 29, 23, 59, 59, 999999, tzinfo=datetime.UTC)


@pytest.fixture
async def cluster(store: Store, template: ClusterTemplate) -> Cluster:
    return await added(store, a_cluster(template, status=ClusterStatus.CREATE_COMPLETE))


def rotating(cluster: Cluster) -> Cluster:
    return dataclasses.replace(
        cluster,
        rotation=cluster.rotation or Rotation.TRUST,
        status=ClusterStatus.UPDATE_IN_PROGRESS,
        status_reason="rotate the CA",
    )


def in_phase(cluster: Cluster, rotation: Rotation | None) -> Cluster:
    return dataclasses.replace(cluster, rotation=rotation)


async def rotate(store: Store, cluster: Cluster, coming: KeyPair = COMING) -> Cluster:
    return await store.clusters.want(cluster.uuid, rotating, PLENTY, by="alice", coming=coming)


async def taken(store: Store) -> Claim:
    claim = await store.claims.take("w", 30)
    assert claim is not None
    return claim


async def test_a_cluster_with_everything_set_comes_back_the_same(
    store: Store, template: ClusterTemplate
) -> None:
    flavor = Flavor("grün", 3, 2**33, 2**34, 99)
    gpu = made.group(
        "gpu",
        role="gpu",
        prefix="gpux2",
        flavor=flavor,
        ordinals=(0, 4, 2),
        template_uuid="an older one",
        image_id="host",
        min_node_count=1,
        max_node_count=9,
        docker_volume_size=5,
        labels={"ключ": "värde", "": ""},
        merge_labels=True,
        node_labels={"disk": "ssd"},
        node_taints=(Taint("gpu", "NoSchedule", "yes"), Taint("k", "NoExecute")),
        created_at=SOME_TIME,
        updated_at=SOME_TIME.replace(microsecond=0),
        status=ClusterStatus.UPDATE_FAILED,
        status_reason="no room",
        addresses={"gpux2-0": "10.0.0.9"},
    )
    going = made.group("going", 0, status=ClusterStatus.DELETE_IN_PROGRESS)
    before = await added(store, a_cluster(template))
    full = dataclasses.replace(
        before,
        labels={"a": "b"},
        groups=(*before.groups, gpu, going),
        fallback=(*before.groups, dataclasses.replace(gpu, ordinals=(0,))),
        batch_size=3,
        rotation=Rotation.TRUST,
        credentials=4,
        deadline=SOME_TIME,
        status=ClusterStatus.UPDATE_IN_PROGRESS,
        status_reason="everything",
        health=Health(HealthStatus.UNHEALTHY, {"api": "silent"}),
    )
    stored = await store.clusters.want(
        before.uuid, lambda _: full, PLENTY, by="alice", coming=COMING
    )
    assert stored == dataclasses.replace(full, updated_at=stored.updated_at)
    assert await store.clusters.get(before.uuid, EVERYTHING) == stored
    claim = await taken(store)
    assert claim.cluster == stored
    seen = dataclasses.replace(
        stored,
        api_address="https://x",
        coe_version="27",
        container_version="1.7",
        attempts=7,
        fallback=None,
    )
    assert await store.claims.apply(claim, seen, 0.0)
    assert await store.clusters.get(before.uuid, EVERYTHING) == seen


async def test_from_one_ca_to_the_other(store: Store, cluster: Cluster) -> None:
    assert (await rotate(store, cluster)).rotation is Rotation.TRUST
    claim = await taken(store)
    assert claim.keys == CaKeys(CA, COMING, Rotation.TRUST)
    assert "secret" not in repr(claim)
    await store.claims.apply(claim, in_phase(claim.cluster, Rotation.SERVE), 0.0)
    claim = await taken(store)
    assert claim.keys == await store.clusters.ca(cluster.uuid)
    assert claim.keys == CaKeys(CA, COMING, Rotation.SERVE)
    await store.claims.apply(claim, in_phase(claim.cluster, None), 0.0)
    claim = await taken(store)
    assert (claim.keys, claim.cluster.rotation) == (CaKeys(COMING), None)
    await store.claims.apply(claim, claim.cluster, 0.0)
    assert await store.clusters.ca(cluster.uuid) == CaKeys(COMING)


async def test_a_wish_in_between_loses_nothing(store: Store, cluster: Cluster) -> None:
    """The conductor's last word on the old wish is void; it says it again on the new one."""
    await rotate(store, cluster)
    claim = await taken(store)
    await store.claims.apply(claim, in_phase(claim.cluster, Rotation.SERVE), 0.0)
    claim = await taken(store)
    await wanted(store, cluster.uuid, lambda c: sized(c, 5))
    assert not await store.claims.apply(claim, in_phase(claim.cluster, None), 0.0)
    claim = await taken(store)
    assert claim.keys == CaKeys(CA, COMING, Rotation.SERVE)
    assert (claim.cluster.rotation, claim.cluster.node_count) == (Rotation.SERVE, 5)
    assert await store.claims.apply(claim, in_phase(claim.cluster, None), 0.0)
    assert await store.clusters.ca(cluster.uuid) == CaKeys(COMING)


async def test_asking_again_brings_no_third_ca(store: Store, cluster: Cluster) -> None:
    """Nodes may trust the coming one already: it must not be exchanged under them."""
    await rotate(store, cluster)
    await wanted(
        store,
        cluster.uuid,
        lambda c: dataclasses.replace(c, status=ClusterStatus.UPDATE_FAILED),
    )
    again = await rotate(store, cluster, THIRD)
    assert (again.rotation, again.status) == (Rotation.TRUST, ClusterStatus.UPDATE_IN_PROGRESS)
    assert await store.clusters.ca(cluster.uuid) == CaKeys(CA, COMING, Rotation.TRUST)


async def test_a_wish_that_is_refused_brings_no_ca(store: Store, cluster: Cluster) -> None:
    def refuse(_: Cluster) -> Cluster:
        raise Conflict("no")

    with pytest.raises(Conflict):
        await store.clusters.want(cluster.uuid, refuse, PLENTY, by="alice", coming=COMING)
    await store.clusters.want(cluster.uuid, lambda c: c, PLENTY, by="alice", coming=COMING)
    assert await store.clusters.ca(cluster.uuid) == CaKeys(CA)
    await rotate(store, cluster, THIRD)
    assert await store.clusters.ca(cluster.uuid) == CaKeys(CA, THIRD, Rotation.TRUST)


async def test_what_was_sealed_with_a_lost_key_can_still_be_deleted(
    store: Store, template: ClusterTemplate, cluster: Cluster, url: str
) -> None:
    await rotate(store, cluster)
    await store.claims.release(await taken(store))
    both = await Store.open(url, Seal([b"n" * 32, b"k" * 32]))
    newer = await added(both, a_cluster(template, "newer"))
    await both.close()
    lost = await Store.open(url, Seal([b"n" * 32]))  # the last row opens, the first does not
    with pytest.raises(SealBroken):
        await lost.clusters.ca(cluster.uuid)
    await wanted(
        lost,
        cluster.uuid,
        lambda c: dataclasses.replace(c, status=ClusterStatus.DELETE_IN_PROGRESS),
    )
    claims = {claim.cluster.uuid: claim for claim in [await taken(lost), await taken(lost)]}
    assert claims[newer.uuid].keys == CaKeys(CA)
    broken = claims[cluster.uuid]
    assert broken.keys is None
    assert await lost.claims.apply(broken, broken.cluster, 0.0)
    await lost.claims.remove(await taken(lost))
    assert await lost.clusters.list(EVERYTHING, Page()) == [newer]
    await lost.close()
