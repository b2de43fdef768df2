"""One transaction over clusters, nodes, CPU, memory and disk."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from moorage.model.cluster import Cluster
from moorage.model.errors import Conflict, Forbidden, Invalid, NotFound, QuotaExceeded
from moorage.model.page import Page
from moorage.model.quota import Resource
from moorage.services import NewCluster, NewNodeGroup, NewQuota, NewRelease, NewSize, NewTemplate
from moorage.store import Store
from moorage.trust.seal import Seal
from tests.unit.services.conftest import (
    ADMIN,
    OUR_READER,
    OURS,
    THEIRS,
    House,
    caller,
    house_over,
)


@pytest.fixture
async def template(house: House) -> None:
    await house.templates.create(OURS, NewTemplate("swarm", "swarm"))
    await house.templates.create(OURS, NewTemplate("swarm", "larger", "small", "small"))


async def limit(house: House, resource: str, to: int) -> None:
    await house.services.quotas.create(ADMIN, NewQuota(OURS.project_id, resource, to))


@pytest.mark.parametrize(
    ("resource", "to", "said"),
    [
        ("Cluster", 1, "1 clusters"),
        ("Node", 4, "4 nodes"),
        ("CPU", 4, "4 CPUs"),
        ("Memory", 2048, "2048 MiB of memory"),
        ("Disk", 9, "9 GiB of disk"),
    ],
)
async def test_each_resource_holds(
    house: House, template: None, resource: str, to: int, said: str
) -> None:
    await limit(house, resource, to)
    await house.clusters.create(OURS, NewCluster("swarm", "one", node_count=1))
    with pytest.raises(QuotaExceeded, match=f"quota of {said} is too small"):
        await house.clusters.create(OURS, NewCluster("swarm", "two", node_count=3))
    if resource != "Cluster":
        with pytest.raises(QuotaExceeded, match=said):
            await house.clusters.resize(OURS, "one", NewSize(8))
        with pytest.raises(QuotaExceeded, match=said):
            await house.services.nodegroups.create(OURS, "one", NewNodeGroup("g", 7))


async def test_an_upgrade_to_a_larger_flavor_counts(house: House, template: None) -> None:
    await limit(house, "Memory", 1500)
    await house.clusters.create(OURS, NewCluster("swarm", "one", node_count=1))
    with pytest.raises(QuotaExceeded, match="1024 more were asked for"):
        await house.clusters.upgrade(OURS, "one", NewRelease("larger"))


async def test_who_is_over_a_lowered_quota_may_still_shrink(house: House, template: None) -> None:
    await house.clusters.create(OURS, NewCluster("swarm", "one", node_count=5))
    await limit(house, "Node", 2)
    after = await house.clusters.resize(OURS, "one", NewSize(3))
    assert after.node_count == 3
    with pytest.raises(QuotaExceeded):
        await house.clusters.resize(OURS, "one", NewSize(4))
    await house.services.quotas.update(ADMIN, NewQuota(OURS.project_id, "Node", -1))
    assert (await house.clusters.resize(OURS, "one", NewSize(19))).node_count == 19


async def test_what_is_going_counts_until_it_is_gone(house: House, template: None) -> None:
    await limit(house, "Cluster", 1)
    one = await house.clusters.create(OURS, NewCluster("swarm", "one"))
    await house.clusters.delete(OURS, "one")
    with pytest.raises(QuotaExceeded):
        await house.clusters.create(OURS, NewCluster("swarm", "two"))
    claim = await house.store.claims.take("w", 30)
    assert claim is not None
    assert claim.cluster.uuid == one.uuid
    await house.store.claims.remove(claim)
    assert await house.services.quotas.stats(OURS, OURS.project_id) == dict.fromkeys(Resource, 0)
    await house.clusters.create(OURS, NewCluster("swarm", "two"))


async def test_two_at_one_instant_can_not_both_take_the_last(tmp_path: Path) -> None:
    url, seal = f"sqlite:///{tmp_path / 'moorage.db'}", Seal([b"k" * 32])
    stores = [await Store.open(url, seal) for _ in range(2)]
    houses = [house_over(store) for store in stores]
    await houses[0].templates.create(OURS, NewTemplate("swarm", "swarm"))

    async def create(number: int) -> Any:
        new = NewCluster("swarm", f"c{number}", node_count=1)
        return await houses[number % 2].clusters.create(OURS, new)

    ended = await asyncio.gather(*(create(n) for n in range(8)), return_exceptions=True)
    assert sum(isinstance(end, QuotaExceeded) for end in ended) == 4, ended
    used = await houses[0].services.quotas.stats(OURS, OURS.project_id)
    assert (used[Resource.CLUSTER], used[Resource.NODE]) == (4, 8)
    for store in stores:
        await store.close()


async def test_of_many_growing_at_once_none_passes_the_quota(house: House, template: None) -> None:
    await limit(house, "Node", 10)
    for name in ("one", "two"):
        await house.clusters.create(OURS, NewCluster("swarm", name, node_count=1))
    ended = await asyncio.gather(
        house.clusters.resize(OURS, "one", NewSize(4)),
        house.clusters.resize(OURS, "two", NewSize(4)),
        house.services.nodegroups.create(OURS, "one", NewNodeGroup("g", 3)),
        house.services.nodegroups.create(OURS, "two", NewNodeGroup("g", 3)),
        house.clusters.create(OURS, NewCluster("swarm", "three", node_count=2)),
        return_exceptions=True,
    )
    assert sum(isinstance(end, QuotaExceeded) for end in ended) == 3, ended
    used = await house.services.quotas.stats(OURS, OURS.project_id)
    assert used[Resource.NODE] == 10


async def test_another_project_s_clusters_take_nothing_of_ours(
    house: House, template: None
) -> None:
    await limit(house, "Node", 2)
    await house.templates.create(THEIRS, NewTemplate("swarm", "theirs"))
    await house.clusters.create(THEIRS, NewCluster("theirs", "big", node_count=9))
    await house.clusters.create(OURS, NewCluster("swarm", "one", node_count=1))
    with pytest.raises(QuotaExceeded, match="of 2 nodes is too small: it has 2, and 1 more were"):
        await house.clusters.resize(OURS, "one", NewSize(2))
    grown = house.clusters.resize(ADMIN, (await _one(house)).uuid, NewSize(2))
    with pytest.raises(QuotaExceeded):  # it counts for its project, whoever asks
        await grown


async def _one(house: House) -> Cluster:
    return await house.clusters.get(OURS, "one")


async def test_zero_is_a_quota_and_unlimited_another(house: House, template: None) -> None:
    await limit(house, "Cluster", 0)
    with pytest.raises(QuotaExceeded, match="quota of 0 clusters"):
        await house.clusters.create(OURS, NewCluster("swarm", "one"))
    await house.services.quotas.update(ADMIN, NewQuota(OURS.project_id, "Cluster", -1))
    for number in range(6):  # more than the default of 4
        await house.clusters.create(OURS, NewCluster("swarm", f"c{number}"))


async def test_a_deleted_group_counts_until_its_nodes_are_gone(
    house: House, template: None
) -> None:
    await limit(house, "Node", 4)
    one = await house.clusters.create(OURS, NewCluster("swarm", "one", node_count=1))
    await house.services.nodegroups.create(OURS, "one", NewNodeGroup("g", 2))
    await house.services.nodegroups.delete(OURS, "one", "g")
    with pytest.raises(QuotaExceeded):
        await house.clusters.resize(OURS, "one", NewSize(2))
    await house.settle(one.uuid, "UPDATE_COMPLETE", groups=one.groups)
    assert (await house.clusters.resize(OURS, "one", NewSize(3))).node_count == 3


async def test_pages_of_quotas(house: House) -> None:
    quotas = house.services.quotas
    made = [
        await quotas.create(ADMIN, NewQuota(project, resource, number))
        for number, (project, resource) in enumerate(
            (("a", "Node"), ("b", "Cluster"), ("a", "Disk"), ("c", "CPU"))
        )
    ]
    page = Page(limit=2, marker=str(made[0].id))
    assert await quotas.list(ADMIN, page, all_projects=True) == made[1:3]
    down = Page(sort_key="hard_limit", sort_dir="desc")
    assert await quotas.list(ADMIN, down, all_projects=True) == made[::-1]
    assert await quotas.list(caller("a", "reader"), Page()) == [made[0], made[2]]
    with pytest.raises(Invalid) as caught:  # another project's is no marker
        await quotas.list(caller("a", "reader"), Page(marker=str(made[1].id)))
    assert caught.value.field == "marker"


@pytest.mark.parametrize("project", ["p\0", "\ud800", " ", "p" * 65])
async def test_no_project_is_called_so(house: House, project: str) -> None:
    quotas = house.services.quotas
    for asked in (
        quotas.get(ADMIN, project, "Node"),
        quotas.delete(ADMIN, project, "Node"),
        quotas.stats(ADMIN, project),
    ):
        with pytest.raises(Invalid) as caught:
            await asked
        assert caught.value.field == "project_id"


async def test_defaults_and_what_an_admin_sets(house: House) -> None:
    quotas, project = house.services.quotas, OURS.project_id
    assert (await quotas.get(OURS, project, "Node")).hard_limit == 20
    made = await quotas.create(ADMIN, NewQuota(project, "Node", 5))
    assert (made.id, made.hard_limit) == (1, 5)
    with pytest.raises(Conflict):
        await quotas.create(ADMIN, NewQuota(project, "Node", 6))
    changed = await quotas.update(ADMIN, NewQuota(project, "Node", 7))
    assert (changed.hard_limit, changed.updated_at is not None) == (7, True)
    assert await quotas.list(OUR_READER, Page()) == [changed]
    assert await quotas.list(THEIRS, Page()) == []
    assert await quotas.list(ADMIN, Page(), all_projects=True) == [changed]
    await quotas.delete(ADMIN, project, "Node")
    assert (await quotas.get(OURS, project, "Node")).hard_limit == 20
    for missing in (
        quotas.delete(ADMIN, project, "Node"),
        quotas.update(ADMIN, NewQuota(project, "Node", 1)),
    ):
        with pytest.raises(NotFound):
            await missing


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        (("p", "Bicycle", 1), "resource"),
        (("p", "Node", -2), "hard_limit"),
        (("p", "Node", 2**63), "hard_limit"),
        (("", "Node", 1), "project_id"),
        (("p" * 65, "Node", 1), "project_id"),
    ],
)
async def test_bad_quotas(house: House, fields: tuple[str, str, int], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        await house.services.quotas.create(ADMIN, NewQuota(*fields))
    assert caught.value.field == field


async def test_only_admins_set_and_nobody_reads_another_s(house: House) -> None:
    quotas, new = house.services.quotas, NewQuota(OURS.project_id, "Node", 1000)
    for attack in (
        quotas.create(OURS, new),
        quotas.update(OURS, new),
        quotas.delete(OURS, OURS.project_id, "Node"),
        quotas.get(THEIRS, OURS.project_id, "Node"),
        quotas.stats(THEIRS, OURS.project_id),
        quotas.stats(OURS, None),
        quotas.list(OURS, Page(), all_projects=True),
    ):
        with pytest.raises(Forbidden):
            await attack
    assert await quotas.stats(ADMIN, None) == dict.fromkeys(Resource, 0)
