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
from moorage.model.nodegroup import prefix_for
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
    after = wishes.resized(fleet(), None, 6, rollback=True)
    assert after.fallback == fleet().groups
    assert wishes.resized(after, None, 5).fallback is None


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
    for wish in (
        lambda c: wishes.resized(c, None, 1),
        lambda c: wishes.with_group(c, made.group()),
        lambda c: wishes.upgraded(c, template(), None, FLAVORS),
        wishes.rotating_ca,
        wishes.with_new_credentials,
    ):
        with pytest.raises(Conflict, match="is being deleted"):
            wish(going)


def test_groups_come_and_go() -> None:
    more = wishes.with_group(fleet(), made.group("gpu", 2))
    assert more.status_reason == "add node group gpu: 2 tiny"
    assert (more.node_count, more.master_count) == (6, 1)
    with pytest.raises(Conflict, match="has a node group gpu"):
        wishes.with_group(more, made.group("gpu"))
    less = wishes.without_group(more, "gpu")
    assert less.groups[2].status is ClusterStatus.DELETE_IN_PROGRESS
    assert wishes.without_group(less, "uuid-of-gpu") == less
    with pytest.raises(Conflict, match="gpu is being deleted"):
        wishes.resized(less, "gpu", 1)
    for default in ("default-master", "default-worker"):
        with pytest.raises(Invalid, match="default node group"):
            wishes.without_group(more, default)


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
    after = wishes.upgraded(before, new, template(labels={"a": "1"}), FLAVORS, batch_size=2)
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
        fleet(flavor=own, image_id="mine"), template("t2", flavor_id="big"), template(), FLAVORS
    )
    assert (after.default_worker.flavor, after.default_worker.image_id) == (own, "mine")


def test_going_back_wants_the_former_revision() -> None:
    there = wishes.upgraded(fleet(), template("t2", flavor_id="big"), template(), FLAVORS)
    back = wishes.upgraded(there, template(), template("t2", flavor_id="big"), FLAVORS)
    assert [g.revision for g in back.groups] == [g.revision for g in fleet().groups]


def test_going_on_is_asking_again() -> None:
    new = template("t2")
    failed = wishes.upgraded(fleet(), new, template(), FLAVORS)
    failed = dataclasses.replace(failed, status=ClusterStatus.UPDATE_FAILED)
    again = wishes.upgraded(failed, new, new, FLAVORS)
    assert again.status is ClusterStatus.UPDATE_IN_PROGRESS
    assert [g.revision for g in again.groups] == [g.revision for g in failed.groups]


def test_another_group_follows_to_its_cluster_s_template_only() -> None:
    before = dataclasses.replace(
        fleet(), groups=(*fleet().groups, made.group("gpu", status=DONE, template_uuid="t0"))
    )
    with pytest.raises(Conflict, match="only to its cluster's own template, t"):
        wishes.upgraded(before, template("t2"), template(), FLAVORS, ident="gpu")
    after = wishes.upgraded(before, template(), template(), FLAVORS, ident="gpu")
    assert after.groups[2].template_uuid == "t"
    assert after.groups[:2] == before.groups[:2]
    assert after.labels == before.labels


def test_another_coe_is_no_upgrade() -> None:
    with pytest.raises(Conflict, match="is of fake, and the template of swarm"):
        wishes.upgraded(fleet(), template("t2", coe="swarm"), template(), FLAVORS)


def test_rotations() -> None:
    after = wishes.rotating_ca(fleet())
    assert (after.rotation, after.status_reason) == (Rotation.TRUST, "rotate the CA")
    assert wishes.rotating_ca(after) == after
    assert wishes.with_new_credentials(fleet()).credentials == 1
