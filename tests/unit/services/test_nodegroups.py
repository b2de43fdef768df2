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
    told = (await house.events(cluster.uuid))[-1]
    said = "add node group GPU: 2 small. Labels that are kept without effect: b. (asked by user)"
    assert told == said


async def test_what_a_group_has_of_its_cluster_is_not_told_again(
    house: House, cluster: Cluster
) -> None:
    for number, labels in enumerate((None, {}, {"a": "1"}, {"provider": "local"})):
        await house.services.nodegroups.create(
            OURS, "one", NewNodeGroup(f"g{number}", labels=labels)
        )
        told = (await house.events(cluster.uuid))[-1]
        assert told == f"add node group g{number}: 1 tiny (asked by user)"


async def test_any_name_that_can_be_printed(house: House, cluster: Cluster) -> None:
    """As upstream; the nodes' names are made from it."""
    found = {}
    for name in ("2xlarge", "gpu pool", "Größe", "日本", "a/b", "x" * 255):
        made = await house.services.nodegroups.create(OURS, "one", NewNodeGroup(name))
        found[name] = made[1].nodes[0]
        assert await house.services.nodegroups.get(OURS, "one", name) == made
    assert list(found.values()) == [
        "g2xlarge-0",
        "gpu-pool-0",
        "gr-e-0",
        "g-0",
        "a-b-0",
        f"{'x' * 20}-0",
    ]


async def test_0_is_no_bound(house: House, cluster: Cluster) -> None:
    groups = house.services.nodegroups
    _, group = await groups.create(OURS, "one", NewNodeGroup("g", 3, max_node_count=0))
    assert group.max_node_count is None
    for value, most in ((5, 5), ("0", None)):
        _, group = await groups.update(OURS, "one", "g", [PatchOp("add", "/max_node_count", value)])
        assert group.max_node_count == most


async def test_a_cluster_has_fifty_groups_at_the_most(house: House, cluster: Cluster) -> None:
    """Groups without nodes are counted by no quota."""
    groups = house.services.nodegroups
    for number in range(48):
        await groups.create(OURS, "one", NewNodeGroup(f"g{number}", 0))
    with pytest.raises(Conflict, match="50 node groups, and 50 are the most: delete one first"):
        await groups.create(OURS, "one", NewNodeGroup("more", 0))
    await groups.delete(OURS, "one", "g7")
    with pytest.raises(Conflict, match="50 are the most"):  # until it is gone
        await groups.create(OURS, "one", NewNodeGroup("more", 0))


async def test_all_labels_of_a_group_have_room_together(house: House, cluster: Cluster) -> None:
    """Its own, its nodes' and the taints: each row is read whole by every list."""
    groups = house.services.nodegroups
    labels = {f"k{number}": "v" * 1000 for number in range(12)}
    nodes = {f"n{number:02}": "v" * 60 for number in range(64)}
    taints = [f"{number:02}.{'t' * 40}={'v' * 60}:NoSchedule" for number in range(64)]
    kept = await groups.create(OURS, "one", NewNodeGroup("g", 0, labels=labels))
    attempts: list[dict[str, Any]] = [
        {"labels": labels, "node_labels": nodes, "node_taints": taints},
        {"labels": labels, "node_taints": taints},
    ]
    for fields in attempts:
        with pytest.raises(Invalid, match="together may have 16384 bytes, not"):
            await groups.create(OURS, "one", NewNodeGroup("x", 0, **fields))
    for path, value in (("/node_taints", taints), ("/node_labels", nodes | {"x": "y"})):
        patch = [PatchOp("add", "/node_labels", nodes), PatchOp("add", path, value)]
        with pytest.raises(Invalid, match="together may have 16384 bytes, not"):
            await groups.update(OURS, "one", "g", [*patch, PatchOp("add", "/node_taints", taints)])
    assert (await groups.get(OURS, "one", "g"))[1] == kept[1]


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
        ({"name": " "}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"name": "a\x1b[2J"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a\u202eb"}, "name"),
        ({"docker_volume_size": 0}, "docker_volume_size"),
        ({"docker_volume_size": -3}, "docker_volume_size"),
        ({"labels": {"a": "\x1b]0;owned\x07"}}, "labels"),
        ({"labels": {f"k{n}": "v" * 4000 for n in range(5)}}, "labels"),
        ({"node_count": -1}, "node_count"),
        ({"node_count": 4, "max_node_count": 3}, "node_count"),
        ({"min_node_count": 2, "node_count": 1}, "node_count"),
        ({"min_node_count": 3, "max_node_count": 2}, "max_node_count"),
        ({"max_node_count": -1}, "max_node_count"),
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
