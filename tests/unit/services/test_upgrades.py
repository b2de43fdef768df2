"""Upgrades and rotations as the services allow them: whose, to what, and two at one instant."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from cryptography import x509

from moorage.model.cluster import Cluster, Rotation
from moorage.model.errors import Conflict, Invalid, NotFound, RetryLater
from moorage.services import (
    NewCluster,
    NewNodeGroup,
    NewOffer,
    NewRelease,
    NewSize,
    NewTemplate,
    PatchOp,
    clusters,
    wishes,
)
from moorage.store import EVERYTHING
from tests.unit.services.conftest import ADMIN, OURS, THEIRS, House


@pytest.fixture
async def cluster(house: House) -> Cluster:
    for template in (
        NewTemplate("swarm", "one", "tiny", "tiny", {"a": "1"}),
        NewTemplate("swarm", "two", "small", "tiny", {"a": "2"}),
        NewTemplate("swarm", "three", "tiny", "small", {"a": "3"}),
    ):
        await house.templates.create(OURS, template)
    return await house.clusters.create(OURS, NewCluster("one", "web", node_count=2))


def flavors(cluster: Cluster) -> list[str]:
    return [group.flavor.name for group in cluster.groups]


async def test_a_group_follows_its_cluster_by_what_it_had_from_its_own_template(
    house: House, cluster: Cluster
) -> None:
    await house.services.nodegroups.create(OURS, "web", NewNodeGroup("g"))
    await house.services.nodegroups.create(
        OURS, "web", NewNodeGroup("own", labels={"a": "mine"}, flavor_id="small")
    )
    after = await house.clusters.upgrade(OURS, "web", NewRelease("two"))
    assert flavors(after) == ["tiny", "small", "tiny", "small"]
    for group in ("g", "own"):
        after = await house.clusters.upgrade(OURS, "web", NewRelease("two", group=group))
    assert flavors(after) == ["tiny", "small", "small", "small"]
    assert [group.labels["a"] for group in after.groups] == ["2", "2", "2", "mine"]
    with pytest.raises(Conflict, match="only to its cluster's own template"):
        await house.clusters.upgrade(OURS, "web", NewRelease("three", group="g"))


async def test_of_two_upgrades_at_one_instant_the_last_one_holds_wholly(
    house: House, cluster: Cluster
) -> None:
    await asyncio.gather(
        *(house.clusters.upgrade(OURS, "web", NewRelease(name)) for name in ("two", "three"))
    )
    after = await house.clusters.get(OURS, "web")
    template = await house.templates.get(OURS, after.template_uuid)
    assert flavors(after) == [template.master_flavor_id, template.flavor_id]
    assert after.labels == template.labels
    assert {group.template_uuid for group in after.groups} == {after.template_uuid}
    assert after.status_reason == (await house.events(cluster.uuid))[-1].partition(" (asked")[0]


async def test_who_is_overtaken_again_and_again_is_told_to_come_later(
    house: House, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def overtaken(*_: object, **__: object) -> Cluster:
        tried.append("again")
        raise wishes.Overtaken

    monkeypatch.setattr(wishes, "upgraded", overtaken)
    with pytest.raises(RetryLater, match="several requests at once"):
        await house.clusters.upgrade(OURS, "web", NewRelease("two"))
    assert len(tried) == clusters.TIMES_TO_READ
    assert await house.clusters.get(OURS, "web") == cluster


async def test_what_an_admin_took_away_is_kept_by_who_has_it(house: House) -> None:
    await house.catalogue.add(
        ADMIN, NewOffer("flavor", "huge", detail={"vcpus": 1, "memory_mib": 9, "disk_gib": 1})
    )
    await house.catalogue.add(ADMIN, NewOffer("image", "old"))
    for name in ("huge", "huge2"):
        options = {"image_id": "old"}
        await house.templates.create(OURS, NewTemplate("swarm", name, "huge", options=options))
    await house.templates.create(OURS, NewTemplate("swarm", "tiny"))
    await house.clusters.create(OURS, NewCluster("huge", "has"))
    await house.clusters.create(OURS, NewCluster("tiny", "has-not"))
    await house.catalogue.remove(ADMIN, "flavor", "huge", None)
    again = await house.clusters.upgrade(OURS, "has", NewRelease("huge"))
    assert again.default_worker.flavor.memory_mib == 9
    await house.catalogue.remove(ADMIN, "image", "old", None)
    assert (await house.clusters.upgrade(OURS, "has", NewRelease("huge"))).groups[
        1
    ].image_id == "old"
    with pytest.raises(Invalid, match="no image 'old'; provider local has: host") as caught:
        await house.clusters.upgrade(OURS, "has-not", NewRelease("huge2"))
    assert caught.value.field == "image_id"
    await house.catalogue.add(ADMIN, NewOffer("image", "old"))
    with pytest.raises(Invalid, match="no flavor huge; there is: small, tiny"):
        await house.clusters.upgrade(OURS, "has-not", NewRelease("huge2"))


async def test_templates_that_no_cluster_of_ours_can_go_to(house: House, cluster: Cluster) -> None:
    theirs = await house.templates.create(THEIRS, NewTemplate("swarm", "theirs"))
    elsewhere = {"provider": "small"}
    await house.templates.create(OURS, NewTemplate("swarm", "elsewhere", labels=elsewhere))
    for ident in ("theirs", theirs.uuid, "nothing", "\0", "\ud800"):
        with pytest.raises(NotFound):
            await house.clusters.upgrade(OURS, "web", NewRelease(ident))
        with pytest.raises(NotFound):
            await house.clusters.create(OURS, NewCluster(ident))
    with pytest.raises(Conflict, match="can't leave its provider, local"):
        await house.clusters.upgrade(OURS, "web", NewRelease("elsewhere"))
    for size in (0, -1, 1001):
        with pytest.raises(Invalid, match="max_batch_size"):
            await house.clusters.upgrade(OURS, "web", NewRelease("two", size))
    for group in ("nothing", "\ud800"):
        with pytest.raises(NotFound):
            await house.clusters.upgrade(OURS, "web", NewRelease("one", group=group))
        with pytest.raises(NotFound):
            await house.clusters.resize(OURS, "web", NewSize(1, group=group))
    assert await house.clusters.get(OURS, "web") == cluster


async def test_a_patch_that_rolls_back_goes_to_what_was_before_it_all(
    house: House, cluster: Cluster
) -> None:
    twice = [PatchOp("replace", "/node_count", count) for count in (5, 3)]
    after = await house.clusters.update(OURS, "web", twice, rollback=True)
    assert (after.node_count, after.fallback) == (3, cluster.groups)
    health = [PatchOp("replace", "/health_status", "HEALTHY")]
    assert (await house.clusters.update(OURS, "web", health, rollback=True)).fallback == (
        cluster.groups
    )
    assert (await house.clusters.update(OURS, "web", twice[:1])).fallback is None


async def test_wishes_at_one_instant_all_come_true(house: House, cluster: Cluster) -> None:
    await asyncio.gather(
        house.clusters.resize(OURS, "web", NewSize(3, ["worker-0"])),
        house.services.nodegroups.create(OURS, "web", NewNodeGroup("gpu", 2)),
        house.services.certificates.rotate(OURS, "web"),
        house.clusters.rotate_credentials(OURS, "web"),
        house.clusters.upgrade(OURS, "web", NewRelease("two")),
        house.services.nodegroups.update(
            OURS, "web", "default-worker", [PatchOp("add", "/node_labels/a", "b")]
        ),
    )
    after = await house.clusters.get(OURS, "web")
    assert after.default_worker.nodes == ("worker-1", "worker-2", "worker-3")
    assert (after.groups[2].name, after.groups[2].node_count) == ("gpu", 2)
    assert (after.rotation, after.credentials) == (Rotation.TRUST, 1)
    assert after.labels == {"a": "2"}
    assert after.default_worker.node_labels == {"a": "b"}
    assert len(await house.events(cluster.uuid)) == 7


async def test_one_ca_comes_however_often_it_is_asked_for(house: House, cluster: Cluster) -> None:
    before = await house.certificates.ca(OURS, "web")
    await asyncio.gather(*(house.certificates.rotate(OURS, "web") for _ in range(3)))
    both = await house.certificates.ca(OURS, "web")
    assert before in both
    assert len(x509.load_pem_x509_certificates(both.encode())) == 2
    await house.certificates.rotate(OURS, "web")
    assert await house.certificates.ca(OURS, "web") == both
    assert sum("rotate the CA" in line for line in await house.events(cluster.uuid)) == 1


async def test_a_cluster_whose_user_is_gone_stays_an_admin_s_to_manage(
    house: House, cluster: Cluster
) -> None:
    for wish in (
        house.clusters.resize(ADMIN, cluster.uuid, NewSize(3)),
        house.clusters.rotate_credentials(ADMIN, cluster.uuid),
        house.certificates.rotate(ADMIN, cluster.uuid),
        house.services.nodegroups.create(ADMIN, cluster.uuid, NewNodeGroup("g")),
        house.services.nodegroups.delete(ADMIN, cluster.uuid, "g"),
        house.clusters.delete(ADMIN, cluster.uuid),
    ):
        await wish
    after = await house.store.clusters.get(cluster.uuid, EVERYTHING)
    assert (after.project_id, after.status.deleting) == ("ours", True)


async def test_a_group_is_made_of_what_its_cluster_is_of_by_then(
    house: House, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = house.services.nodegroups._catalogue.shelf

    async def upgraded_meanwhile(provider: str) -> object:
        await house.clusters.upgrade(OURS, "web", NewRelease("two"))
        return await shelf(provider)

    monkeypatch.setattr(
        house.services.nodegroups,
        "_catalogue",
        SimpleNamespace(
            shelf=upgraded_meanwhile, room=None, said_of_labels=lambda coe, labels: None
        ),
    )
    after, group = await house.services.nodegroups.create(OURS, "web", NewNodeGroup("gpu"))
    assert (group.template_uuid, group.flavor.name) == (after.template_uuid, "small")
    assert after.template_uuid != cluster.template_uuid
