"""What a request makes wanted, as values and as the sentence that is kept of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.model.cluster import Cluster, ClusterStatus, Rotation
from moorage.model.errors import Conflict, Invalid, NotFound
from moorage.model.node import Flavor
from moorage.model.nodegroup import Taint, prefix_for
from moorage.model.quota import Resource
from moorage.model.template import ClusterTemplate
from moorage.services import wishes
from tests import made

DONE = ClusterStatus.CREATE_COMPLETE
BIG = Flavor("big", 4, 4096, 10, 100)
FLAVORS = {"tiny": made.TINY, "big": BIG}
HERE = {f"worker-{n}": f"10.0.0.{n}" for n in range(4)}


def fleet(workers: int = 4, status: str = "CREATE_COMPLETE", **fields: object) -> Cluster:
    cluster = made.cluster(1, workers, status=status)
    masters, first = cluster.groups
    groups = (masters, dataclasses.replace(first, addresses=HERE, **fields))  # type: ignore[arg-type]
    return dataclasses.replace(cluster, groups=groups)


def template(uuid: str = "t", **fields: object) -> ClusterTemplate:
    plain = ClusterTemplate(uuid, "p", "u", f"{uuid}-name", "fake", "tiny", "tiny")
    return dataclasses.replace(plain, **fields)  # type: ignore[arg-type]


OF_T: wishes.Formers = {"t": template()}
"""What a plain fleet is of."""


@pytest.mark.parametrize(
    ("count", "remove", "left"),
    [
        (6, (), (0, 1, 2, 3, 4, 5)),
        (2, (), (0, 1)),
        (0, (), ()),
        (3, ("worker-1",), (0, 2, 3)),
        (3, ("10.0.0.1",), (0, 2, 3)),
        (2, ("worker-0", "10.0.0.3"), (1, 2)),
        (1, ("worker-0",), (1,)),
        (4, ("worker-2",), (0, 1, 3, 4)),
        (5, ("worker-0", "worker-0"), (1, 2, 3, 4, 5)),
    ],
)
def test_resizing(count: int, remove: tuple[str, ...], left: tuple[int, ...]) -> None:
    after = wishes.resized(fleet(), None, count, remove)
    assert after.default_worker.ordinals == left
    assert after.status is after.default_worker.status is ClusterStatus.UPDATE_IN_PROGRESS
    assert after.default_master == fleet().default_master
    assert (after.status_reason or "").startswith(f"resize: default-worker from 4 to {count}")
    assert after.fallback is None


@given(st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 9), max_size=3)), max_size=8))
def test_any_series_of_sizes_keeps_numbers_unique(
    series: list[tuple[int, list[int]]],
) -> None:
    cluster = fleet()
    for count, places in series:
        there = cluster.default_worker.nodes
        remove = [there[place] for place in places if place < len(there)]
        after = wishes.resized(cluster, None, count, remove)
        numbers = after.default_worker.ordinals
        assert len(numbers) == len(set(numbers)) == count
        assert not set(remove) & set(after.default_worker.nodes)
        cluster = after


def test_the_size_that_it_has_is_no_wish_unless_it_failed() -> None:
    assert wishes.resized(fleet(), None, 4) == fleet()
    again = wishes.resized(fleet(status="UPDATE_FAILED"), None, 4)
    assert again.status is ClusterStatus.UPDATE_IN_PROGRESS


def test_what_was_never_whole_is_still_created() -> None:
    for status in ("CREATE_IN_PROGRESS", "CREATE_FAILED"):
        after = wishes.resized(fleet(status=status), None, 2)
        assert after.status is after.default_worker.status is ClusterStatus.CREATE_IN_PROGRESS


def test_one_wish_after_the_other() -> None:
    after = wishes.resized(wishes.resized(fleet(), None, 6), None, 3, ["worker-1"])
    assert after.default_worker.ordinals == (0, 2, 3)


def test_rolling_back_needs_what_was_before() -> None:
    after = wishes.with_way_back(fleet(), wishes.resized(fleet(), None, 6), rollback=True)
    assert after.fallback == fleet().groups
    assert wishes.with_way_back(fleet(), fleet(), rollback=True).fallback is None
    further = wishes.with_way_back(after, wishes.resized(after, None, 5), rollback=False)
    assert further.fallback is None


def test_a_wish_for_something_else_leaves_the_way_back() -> None:
    after = wishes.with_way_back(fleet(), wishes.resized(fleet(), None, 6), rollback=True)
    again = wishes.with_way_back(after, wishes.with_new_credentials(after), rollback=False)
    assert again.fallback == fleet().groups


def test_room_is_kept_for_the_way_back() -> None:
    after = wishes.with_way_back(fleet(), wishes.resized(fleet(), None, 1), rollback=True)
    assert after.takes == fleet().takes
    sure = wishes.with_way_back(fleet(), wishes.resized(fleet(), None, 1), rollback=False)
    assert sure.takes[Resource.NODE] == 2


def test_a_removed_node_s_number_is_not_given_again_while_it_may_be_there() -> None:
    less = wishes.resized(fleet(), None, 3, ["worker-1"])
    assert less.default_worker.removed == (1,)
    assert wishes.resized(less, None, 4).default_worker.ordinals == (0, 2, 3, 4)


@pytest.mark.parametrize("node", ["worker-1", "10.0.0.1"])
def test_the_sentence_names_the_nodes_that_go(node: str) -> None:
    after = wishes.resized(fleet(), None, 2, [node, "worker-1", "10.0.0.0", node])
    assert after.status_reason == ("resize: default-worker from 4 to 2, without worker-0, worker-1")


def test_a_node_of_another_group_is_not_this_group_s_to_remove() -> None:
    with pytest.raises(Invalid, match="has no node 'master-0'") as caught:
        wishes.resized(fleet(), None, 3, ["master-0"])
    assert caught.value.field == "nodes_to_remove"
    with pytest.raises(Invalid, match="it has: none"):
        wishes.resized(fleet(0), None, 0, ["worker-0"])


def test_masters_grow_by_the_odd_numbers() -> None:
    after = wishes.resized(fleet(), "default-master", 3)
    assert after.default_master.nodes == ("master-0", "master-1", "master-2")
    assert after.default_worker == fleet().default_worker
    fewer = wishes.resized(after, "uuid-of-default-master", 1, ["master-0"])
    assert fewer.default_master.nodes == ("master-1",)


@pytest.mark.parametrize(
    ("group", "count", "remove", "error", "said"),
    [
        (None, 3, ["worker-9"], Invalid, "worker-0, worker-1, worker-2, worker-3"),
        (None, 3, ["10.0.0.9"], Invalid, "no node '10.0.0.9'"),
        ("nowhere", 3, [], NotFound, "no node group 'nowhere'"),
        ("default-master", 2, [], Invalid, "master_count must be 1, 3, 5 or 7"),
        ("default-master", 0, [], Invalid, "master_count must be 1, 3, 5 or 7"),
    ],
)
def test_sizes_that_can_not_be(
    group: str | None, count: int, remove: Sequence[str], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        wishes.resized(fleet(), group, count, remove)


def test_a_group_s_own_bounds_hold() -> None:
    bound = fleet(min_node_count=2, max_node_count=5)
    for count in (1, 6):
        with pytest.raises(Conflict, match=f"can't have {count} nodes: min_node_count is 2"):
            wishes.resized(bound, None, count)


def test_only_a_cluster_that_is_being_deleted_refuses() -> None:
    going = wishes.deleted(fleet())
    assert going.status is ClusterStatus.DELETE_IN_PROGRESS
    assert wishes.deleted(going) == going
    rotating = dataclasses.replace(going, rotation=Rotation.TRUST)
    for wish in (
        lambda c: wishes.resized(c, None, 1),
        lambda c: wishes.resized(c, None, 4),
        lambda c: wishes.with_group(c, made.group()),
        lambda c: wishes.without_group(c, "default-worker"),
        lambda c: wishes.with_changed_group(c, "default-worker", c.default_worker),
        lambda c: wishes.upgraded(c, template("other", coe="swarm"), {}, FLAVORS),
        wishes.rotating_ca,
        wishes.with_new_credentials,
    ):
        with pytest.raises(Conflict, match="is being deleted"):
            wish(rotating)


@pytest.mark.parametrize("status", [s for s in ClusterStatus if not s.deleting])
def test_no_other_status_refuses(status: ClusterStatus) -> None:
    cluster = fleet(status=status)
    whole = status.verb != "CREATE" or status.complete
    for after in (
        wishes.resized(cluster, None, 1),
        wishes.with_group(cluster, made.group()),
        wishes.upgraded(cluster, template("t2"), OF_T, FLAVORS),
        wishes.rotating_ca(cluster),
        wishes.with_new_credentials(cluster),
    ):
        assert after.status.verb == ("UPDATE" if whole else "CREATE")
        assert after.status.in_progress
    assert wishes.deleted(cluster).status is ClusterStatus.DELETE_IN_PROGRESS


def test_groups_come_and_go() -> None:
    more = wishes.with_group(fleet(), made.group("gpu", 2))
    assert more.status_reason == "add node group gpu: 2 tiny"
    assert (more.node_count, more.master_count) == (6, 1)
    with pytest.raises(Conflict, match="has a node group gpu"):
        wishes.with_group(more, made.group("gpu"))
    less = wishes.without_group(more, "gpu")
    assert less.groups[2].status is ClusterStatus.DELETE_IN_PROGRESS
    assert wishes.without_group(less, "uuid-of-gpu") == less
    failed = dataclasses.replace(less, status=ClusterStatus.UPDATE_FAILED)
    assert wishes.without_group(failed, "gpu").status is ClusterStatus.UPDATE_IN_PROGRESS
    bound = dataclasses.replace(less.groups[2], max_node_count=9)
    with pytest.raises(Conflict, match="gpu is being deleted"):
        wishes.resized(less, "gpu", 1)
    with pytest.raises(Conflict, match="gpu is being deleted"):
        wishes.with_changed_group(less, "gpu", bound)
    with pytest.raises(Conflict, match=r"has a node group gpu \(DELETE_IN_PROGRESS\)"):
        wishes.with_group(less, made.group("gpu"))
    for default in ("default-master", "default-worker"):
        with pytest.raises(Invalid, match="default node group"):
            wishes.without_group(more, default)


def test_a_group_changes_its_bounds_labels_and_taints() -> None:
    before = fleet()
    workers = before.default_worker
    assert wishes.with_changed_group(before, "default-worker", workers) == before
    taints = (Taint("gpu", "NoSchedule"),)
    after = wishes.with_changed_group(
        before,
        workers.uuid,
        dataclasses.replace(workers, max_node_count=4, node_labels={"a": "1"}, node_taints=taints),
    )
    changed = after.default_worker
    assert (changed.max_node_count, changed.node_labels) == (4, {"a": "1"})
    assert (changed.node_taints, changed.revision) == (taints, workers.revision)
    assert changed.status is after.status is ClusterStatus.UPDATE_IN_PROGRESS
    assert after.status_reason == "update node group default-worker"
    for bound in (
        dataclasses.replace(workers, min_node_count=5),
        dataclasses.replace(workers, max_node_count=3),
    ):
        with pytest.raises(Conflict, match="can't have 4 nodes"):
            wishes.with_changed_group(before, workers.uuid, bound)


@pytest.mark.parametrize(
    ("name", "taken", "prefix"),
    [
        ("gpu", (), "gpu"),
        ("GPU nodes.big", (), "gpu-nodes-big"),
        ("worker", (), "workerx2"),
        ("Gpu", ("gpu",), "gpux2"),
        ("a" * 60, (), "a" * 20),
        ("default-master", (), "master"),
    ],
)
def test_what_the_names_of_a_group_s_nodes_begin_with(
    name: str, taken: tuple[str, ...], prefix: str
) -> None:
    assert prefix_for(name, taken) == prefix


# Upgrades


def test_an_upgrade_takes_the_default_groups_along() -> None:
    new = template("t2", flavor_id="big", labels={"a": "2"}, options={"image_id": "host"})
    before = dataclasses.replace(fleet(), labels={"a": "1", "own": "x"})
    before = dataclasses.replace(before, groups=(*before.groups, made.group("gpu", status=DONE)))
    formers = {"t": template(labels={"a": "1"})}
    after = wishes.upgraded(before, new, formers, FLAVORS, batch_size=2)
    assert (after.template_uuid, after.batch_size) == ("t2", 2)
    assert after.labels == {"a": "2", "own": "x"}
    master, worker, gpu = after.groups
    assert (master.flavor, worker.flavor, gpu) == (made.TINY, BIG, before.groups[2])
    assert (master.template_uuid, worker.template_uuid) == ("t2", "t2")
    assert worker.image_id == "host"
    assert {master.revision, worker.revision} & {g.revision for g in before.groups} == set()
    assert after.status_reason == "upgrade: default-master and default-worker to template t2-name"


def test_what_a_group_had_been_given_itself_stays() -> None:
    own = Flavor("own", 1, 1, 1, 1)
    after = wishes.upgraded(
        fleet(flavor=own, image_id="mine"), template("t2", flavor_id="big"), OF_T, FLAVORS
    )
    assert (after.default_worker.flavor, after.default_worker.image_id) == (own, "mine")


def test_going_back_wants_the_former_revision() -> None:
    new = template("t2", flavor_id="big")
    there = wishes.upgraded(fleet(), new, OF_T, FLAVORS)
    back = wishes.upgraded(there, template(), {"t2": new}, FLAVORS)
    assert [g.revision for g in back.groups] == [g.revision for g in fleet().groups]


def test_going_on_is_asking_again() -> None:
    new = template("t2")
    failed = wishes.upgraded(fleet(), new, OF_T, FLAVORS)
    failed = dataclasses.replace(failed, status=ClusterStatus.UPDATE_FAILED)
    again = wishes.upgraded(failed, new, {"t2": new}, FLAVORS)
    assert again.status is ClusterStatus.UPDATE_IN_PROGRESS
    assert [g.revision for g in again.groups] == [g.revision for g in failed.groups]


def test_another_group_follows_to_its_cluster_s_template_only() -> None:
    """It is compared with the template that it is of itself, and not with its cluster's."""
    first = template("t0", labels={"a": "0"}, options={"image_id": "host"})
    second = template(flavor_id="big", labels={"a": "1"})
    gpu = made.group("gpu", status=DONE, template_uuid="t0", labels={"a": "0"}, image_id="host")
    before = dataclasses.replace(fleet(), groups=(*fleet().groups, gpu))
    formers = {"t0": first, "t": second}
    with pytest.raises(Conflict, match="only to its cluster's own template, t"):
        wishes.upgraded(before, template("t2"), formers, FLAVORS, ident="gpu")
    after = wishes.upgraded(before, second, formers, FLAVORS, ident="gpu")
    follower = after.groups[2]
    assert (follower.template_uuid, follower.flavor, follower.image_id) == ("t", BIG, None)
    assert follower.labels == {"a": "1"}
    assert follower.status is ClusterStatus.UPDATE_IN_PROGRESS
    assert after.groups[:2] == before.groups[:2]
    assert after.labels == before.labels
    assert after.status_reason == "upgrade: gpu to template t-name"


def test_where_the_former_template_is_gone_everything_was_the_group_s_own() -> None:
    gpu = made.group("gpu", status=DONE, template_uuid="t0", labels={"a": "0"})
    before = dataclasses.replace(fleet(), groups=(*fleet().groups, gpu))
    new = template(flavor_id="big", labels={"a": "1", "b": "2"})
    after = wishes.upgraded(before, new, {"t0": None, "t": new}, FLAVORS, ident="gpu")
    assert (after.groups[2].flavor, after.groups[2].labels) == (made.TINY, {"a": "0", "b": "2"})


def test_an_upgrade_that_another_one_overtook_reads_again() -> None:
    with pytest.raises(wishes.Overtaken):
        wishes.upgraded(fleet(), template("t2"), {"t3": template("t3")}, FLAVORS)


def test_a_flavor_that_was_taken_away_is_kept_and_never_given_anew() -> None:
    new = template("t2", flavor_id="big")
    there = wishes.upgraded(fleet(), new, OF_T, FLAVORS)
    left = {"tiny": made.TINY}
    again = wishes.upgraded(there, new, {"t2": new}, left)
    assert again.default_worker.flavor == BIG
    with pytest.raises(Invalid, match="no flavor big; there is: tiny"):
        wishes.upgraded(fleet(), new, OF_T, left)


def test_a_group_that_is_to_go_is_not_upgraded() -> None:
    going = wishes.without_group(made.cluster(1, 1, made.group("gpu"), status=DONE), "gpu")
    with pytest.raises(Conflict, match="gpu is being deleted"):
        wishes.upgraded(going, template(), OF_T, FLAVORS, ident="gpu")


def test_an_upgrade_remembers_where_it_came_from_until_all_is_renewed() -> None:
    formers: wishes.Formers = {"t": template(), "t2": template("t2")}
    once = wishes.upgraded(fleet(), template("t2"), formers, FLAVORS)
    assert {group.former_uuid for group in once.groups} == {"t"}
    held = dataclasses.replace(
        once, groups=tuple(dataclasses.replace(group, held=True) for group in once.groups)
    )
    resized = wishes.resized(held, None, 5)
    assert resized.default_worker.held, "a resize does not go on with the upgrade"
    again = wishes.upgraded(held, template("t2"), formers, FLAVORS)
    assert {(group.former_uuid, group.held) for group in again.groups} == {("t", False)}
    back = wishes.upgraded(held, template(), formers, FLAVORS)
    assert {(group.former_uuid, group.held) for group in back.groups} == {(None, False)}


def test_labels_that_the_cluster_had_replaced_do_not_come_back() -> None:
    of = dataclasses.replace(fleet(), labels={"own": "1"})
    formers: wishes.Formers = {"t": template(labels={"theirs": "1"})}
    new = template("t2", labels={"theirs": "2", "new": "2"})
    assert wishes.upgraded(of, new, formers, FLAVORS).labels == {"own": "1", "new": "2"}


def test_another_coe_is_no_upgrade() -> None:
    with pytest.raises(Conflict, match="is of fake, and the template of swarm"):
        wishes.upgraded(fleet(), template("t2", coe="swarm"), OF_T, FLAVORS)


def test_rotations() -> None:
    after = wishes.rotating_ca(fleet())
    assert (after.rotation, after.status_reason) == (Rotation.TRUST, "rotate the CA")
    assert wishes.rotating_ca(after) == after
    halfway = dataclasses.replace(
        after, rotation=Rotation.SERVE, status=ClusterStatus.UPDATE_FAILED, deadline=None
    )
    again = wishes.rotating_ca(halfway)
    assert (again.rotation, again.status) == (Rotation.SERVE, ClusterStatus.UPDATE_IN_PROGRESS)
    assert again.deadline is not None
    assert wishes.with_new_credentials(fleet()).credentials == 1
