from __future__ import annotations

from typing import Any

import pytest

from moorage.model.cluster import Cluster
from moorage.model.errors import Conflict, Forbidden, Invalid, NotFound, QuotaExceeded
from moorage.model.nodegroup import Taint
from moorage.model.page import Page
from moorage.services import NewCluster, NewNodeGroup, NewTemplate, PatchOp
from tests.unit.services.conftest import OUR_READER, OURS, THEIRS, House

ALL = Page()


@pytest.fixture
async def cluster(house: House) -> Cluster:
    await house.templates.create(OURS, NewTemplate("swarm", "swarm", labels={"a": "1"}))
    return await house.clusters.create(OURS, NewCluster("swarm", "one", node_count=1))


async def names(house: House, page: Page = ALL, role: str | None = None) -> list[str]:
    _, groups = await house.services.nodegroups.list(OURS, "one", page, role)
    return [group.name for group in groups]


async def test_a_group_of_one_s_own(house: House, cluster: Cluster) -> None:
    owner, group = await house.services.nodegroups.create(
        OURS,
        "one",
        NewNodeGroup(
            "GPU",
            2,
            flavor_id="small",
            role="gpu",
            max_node_count=3,
            labels={"b": "2"},
            merge_labels=True,
            node_labels="{'disk': 'ssd'}",
            node_taints=["gpu=yes:NoSchedule", {"key": "k", "effect": "NoExecute"}],
        ),
    )
    assert (group.prefix, group.nodes, group.flavor.name) == ("gpu", ("gpu-0", "gpu-1"), "small")
    assert (group.labels, group.node_labels) == ({"a": "1", "b": "2"}, {"disk": "ssd"})
    assert group.node_taints == (Taint("gpu", "NoSchedule", "yes"), Taint("k", "NoExecute"))
    assert (owner.uuid, owner.node_count) == (cluster.uuid, 3)
    assert await names(house) == ["default-master", "default-worker", "GPU"]
    assert await names(house, role="gpu") == ["GPU"]
    assert await house.services.nodegroups.get(OUR_READER, "one", group.uuid) == (owner, group)
    assert "add node group GPU: 2 small (asked by " in (await house.events(cluster.uuid))[-1]


async def test_pages(house: House, cluster: Cluster) -> None:
    for name in ("b", "a"):
        await house.services.nodegroups.create(OURS, "one", NewNodeGroup(name))
    assert await names(house, Page(sort_key="name", sort_dir="desc", limit=2)) == [
        "default-worker",
        "default-master",
    ]
    _, (first, *_) = await house.services.nodegroups.list(OURS, "one", Page(limit=1))
    assert await names(house, Page(marker=first.uuid)) == ["default-worker", "b", "a"]
    for page, field in ((Page(sort_key="colour"), "sort_key"), (Page(marker="x"), "marker")):
        with pytest.raises(Invalid) as caught:
            await names(house, page)
        assert caught.value.field == field


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "1st"}, "name"),
        ({"node_count": -1}, "node_count"),
        ({"node_count": 4, "max_node_count": 3}, "node_count"),
        ({"min_node_count": 2, "node_count": 1}, "node_count"),
        ({"min_node_count": 3, "max_node_count": 2}, "max_node_count"),
        ({"max_node_count": 0}, "max_node_count"),
        ({"flavor_id": "huge"}, "flavor_id"),
        ({"image_id": "beos"}, "image_id"),
        ({"role": "master"}, "role"),
        ({"role": "a b"}, "role"),
        ({"node_labels": {"-": "x"}}, "node_labels"),
        ({"node_labels": {"x": "not so good"}}, "node_labels"),
        ({"node_labels": {"moorage.role": "master"}}, "node_labels"),
        ({"node_labels": "nonsense"}, "node_labels"),
        ({"node_taints": "gpu"}, "node_taints"),
        ({"node_taints": ["gpu=yes:Sometimes"]}, "node_taints"),
        ({"node_taints": ["a:NoExecute", "a=1:NoExecute"]}, "node_taints"),
        ({"node_taints": [{"key": "a", "effect": "NoExecute", "more": 1}]}, "node_taints"),
        ({"node_taints": [["a"]]}, "node_taints"),
        ({"labels": 5}, "labels"),
    ],
)
async def test_groups_that_can_not_be(
    house: House, cluster: Cluster, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await house.services.nodegroups.create(OURS, "one", NewNodeGroup(**{"name": "g", **fields}))
    assert caught.value.field == field
    assert await names(house) == ["default-master", "default-worker"]


async def test_a_patch_changes_bounds_labels_and_taints(house: House, cluster: Cluster) -> None:
    groups = house.services.nodegroups
    await groups.create(OURS, "one", NewNodeGroup("g", node_labels={"a": "1", "b": "2"}))
    _, group = await groups.update(
        OURS,
        "one",
        "g",
        [
            PatchOp("replace", "/max_node_count", "7"),
            PatchOp("add", "/node_labels/c", "3"),
            PatchOp("remove", "/node_labels/a"),
            PatchOp("replace", "/node_taints", "['x:NoSchedule']"),
        ],
    )
    assert (group.max_node_count, group.node_labels) == (7, {"b": "2", "c": "3"})
    assert group.node_taints == (Taint("x", "NoSchedule"),)
    for operation, field in (
        (PatchOp("replace", "/node_count", 3), "node_count"),
        (PatchOp("replace", "/role", "x"), "role"),
        (PatchOp("replace", "/max_node_count", "many"), "max_node_count"),
        (PatchOp("remove", "/node_labels/nope"), "node_labels"),
        (PatchOp("replace", "/uuid", "x"), "uuid"),
    ):
        with pytest.raises(Invalid) as caught:
            await groups.update(OURS, "one", "g", [operation])
        assert caught.value.field == field
    with pytest.raises(Conflict):
        await groups.update(OURS, "one", "g", [PatchOp("replace", "/min_node_count", 2)])


async def test_attackers(house: House, cluster: Cluster) -> None:
    groups = house.services.nodegroups
    _, group = await groups.create(OURS, "one", NewNodeGroup("g"))
    patch = [PatchOp("replace", "/max_node_count", 9)]
    for ident in ("one", cluster.uuid):
        for attack in (
            groups.create(THEIRS, ident, NewNodeGroup("x")),
            groups.get(THEIRS, ident, group.uuid),
            groups.list(THEIRS, ident, ALL),
            groups.update(THEIRS, ident, "g", patch),
            groups.delete(THEIRS, ident, "g"),
        ):
            with pytest.raises(NotFound):
                await attack
    for lower in (
        groups.create(OUR_READER, "one", NewNodeGroup("x")),
        groups.update(OUR_READER, "one", "g", patch),
        groups.delete(OUR_READER, "one", "g"),
    ):
        with pytest.raises(Forbidden):
            await lower
    await house.clusters.create(OURS, NewCluster("swarm", "two"))
    with pytest.raises(NotFound):
        await groups.get(OURS, "two", group.uuid)
    with pytest.raises(QuotaExceeded, match="20 nodes"):
        await groups.create(OURS, "one", NewNodeGroup("many", 30))
