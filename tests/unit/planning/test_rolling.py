"""Which nodes are renewed, and when."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from moorage.drivers.fake import FakeDriver, FakeSeen
from moorage.model.cluster import ClusterSpec, Health, HealthStatus
from moorage.model.node import NodeRef, NodeState, ObservedNode, Role
from moorage.model.plan import as_text
from moorage.model.ports import CaKeys
from moorage.planning import rolling
from moorage.trust import ClusterAuthority, new_ca
from tests import made

MASTERS = ["master-1", "master-2"]
AUTHORITY = ClusterAuthority(CaKeys(new_ca("c")))
DRIVER = FakeDriver()


def cluster(masters: int = 1, workers: int = 3, gpus: int = 0) -> ClusterSpec:
    more = [made.spec_group("gpu", gpus)] if gpus else []
    return made.spec(AUTHORITY, masters, workers, *more)


def seen(
    of: ClusterSpec,
    old: Collection[str] = (),
    *,
    joined: Collection[str] | None = None,
    unwell: Mapping[str, str] | None = None,
) -> FakeSeen:
    names = [name for group in of.groups for name in group.nodes]
    roles = dict.fromkeys(of.of(Role.MASTER), Role.MASTER)
    nodes = {
        name: ObservedNode(
            NodeRef(of.uuid, name),
            roles.get(name, Role.WORKER),
            NodeState.RUNNING,
            revision="r0" if name in old else "r1",
        )
        for name in names
    }
    return FakeSeen(
        nodes=nodes,
        health=Health(HealthStatus.UNHEALTHY if unwell else HealthStatus.HEALTHY, unwell or {}),
        joined=frozenset(names if joined is None else joined),
    )


def rolled(of: ClusterSpec, what: FakeSeen, size: int = 1) -> rolling.Rolled:
    return rolling.plan(DRIVER, of, what, batch_size=size)


def holding(of: ClusterSpec, *names: str) -> ClusterSpec:
    """The cluster with those groups on hold."""
    groups = (replace(group, held=group.name in names) for group in of.groups)
    return replace(of, groups=tuple(groups))


def test_nothing_is_old() -> None:
    of = cluster()
    got = rolled(of, seen(of))
    assert (got.steps, got.old, got.held) == ([], (), ())


@pytest.mark.parametrize(
    ("old", "size", "renewing"),
    [
        (["worker-1", "worker-2"], 1, {"worker-1"}),
        (["worker-1", "worker-2"], 2, {"worker-1", "worker-2"}),
        (["worker-0", "worker-1", "worker-2", "gpu-0"], 3, {"worker-0", "worker-1", "worker-2"}),
        (["worker-2", "gpu-0", "gpu-1"], 9, {"worker-2", "gpu-0", "gpu-1"}),
        (["master-0", "worker-0"], 5, {"master-0"}),
        (["master-0", "master-1", "master-2"], 3, {"master-0"}),
    ],
)
def test_a_batch_begins_where_all_else_is_well(
    old: list[str], size: int, renewing: set[str]
) -> None:
    of = cluster(3, 3, 2)
    got = rolled(of, seen(of, old), size)
    assert got.cluster.renewing == renewing
    assert {step.node for step in got.steps if step.verb == "ensure-node"} == renewing
    assert set(got.old) == set(old)


def test_the_next_batch_waits_for_the_one_before() -> None:
    of = cluster()
    got = rolled(
        of, seen(of, ["worker-1", "worker-2"], joined=["master-0", "worker-1", "worker-2"])
    )
    assert as_text(got.steps) == "fake-join worker-0"
    assert got.cluster.renewing == frozenset()


def test_an_old_node_in_trouble_is_renewed_at_once() -> None:
    of = cluster()
    what = seen(of, ["worker-1", "worker-2"], joined=["master-0"], unwell={"worker-2": "down"})
    assert rolled(of, what).cluster.renewing == {"worker-2"}


def test_on_hold_nothing_is_renewed_but_what_fails_is_still_mended() -> None:
    of = holding(cluster(), "default-worker")
    what = seen(of, ["worker-1"])
    got = rolled(of, what)
    assert (got.steps, got.old, got.held) == ([], ("worker-1",), ("worker-1",))
    broken = rolled(of, seen(of, ["worker-1"], joined=["master-0"], unwell={"worker-1": "down"}))
    assert "fake-join worker-0" in as_text(broken.steps)
    assert "ensure-node" not in as_text(broken.steps)


def test_another_group_is_renewed_though_one_is_on_hold() -> None:
    of = holding(cluster(1, 2, 2), "default-worker")
    got = rolled(of, seen(of, ["worker-1", "gpu-0"]))
    assert got.cluster.renewing == {"gpu-0"}
    assert (got.old, got.held) == (("worker-1", "gpu-0"), ("worker-1",))


def test_a_master_that_looks_unwell_may_hold_the_quorum_beside_one_that_is_away() -> None:
    of = cluster(3, 1)
    lost = {"master-0": "no answer", "master-1": "slow"}
    away = [name for group in of.groups for name in group.nodes if name != "master-0"]
    what = seen(of, MASTERS, joined=away, unwell=lost)
    assert rolled(of, what).cluster.renewing == frozenset()
    sure = replace(of, attempts=rolling.PATIENCE)
    assert rolled(sure, what).cluster.renewing == {"master-1"}


def test_going_back_from_a_master_that_does_not_come_up() -> None:
    of = cluster(3, 1)
    what = seen(of, ["master-0"], joined=MASTERS, unwell={"master-0": "no answer"})
    assert rolled(of, what).cluster.renewing == {"master-0"}


def test_what_is_away_already_counts_in_the_batch() -> None:
    of = cluster(1, 4)
    unwell = {"worker-0": "no answer", "worker-1": "down"}
    there = ["master-0", "worker-2", "worker-3"]
    what = seen(of, ["worker-1", "worker-2", "worker-3"], joined=there, unwell=unwell)
    assert rolled(of, what, 1).cluster.renewing == frozenset()
    assert rolled(of, what, 2).cluster.renewing == {"worker-1"}
    assert rolled(replace(of, attempts=3), what, 1).cluster.renewing == {"worker-1"}


def test_a_node_of_an_unknown_revision_is_not_old() -> None:
    of = cluster()
    what = seen(of)
    unknown = {name: replace(node, revision="") for name, node in what.nodes.items()}
    assert rolled(of, replace(what, nodes=unknown)).old == ()
