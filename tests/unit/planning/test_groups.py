"""What a turn means for each node group."""

from __future__ import annotations

import datetime

from moorage.model.cluster import Cluster, ClusterStatus, Health
from moorage.model.node import NodeRef, NodeState, ObservedNode, Role
from moorage.model.plan import Step
from moorage.planning.groups import gone_back, settled_groups
from moorage.planning.status import Verdict
from tests import made


def there(*names: str) -> dict[str, ObservedNode]:
    return {
        name: ObservedNode(NodeRef("o", name), Role.WORKER, NodeState.RUNNING, f"10.0.0.{number}")
        for number, name in enumerate(names)
    }


def verdict(status: str, reason: str | None = None) -> Verdict:
    return Verdict(ClusterStatus(status), reason, Health(), 0, 0.0, "")


def statuses(of: Cluster, status: str, *names: str, steps: tuple[Step, ...] = ()) -> list[str]:
    groups = settled_groups(of, verdict(status, "why"), steps=steps, nodes=there(*names))
    return [f"{group.name} {group.status} {group.status_reason}" for group in groups]


GPU = made.group("gpu", 1, status=ClusterStatus.CREATE_IN_PROGRESS)
OF = made.cluster(1, 1, GPU, status="UPDATE_IN_PROGRESS")
ALL = ("master-0", "worker-0", "gpu-0")


def test_a_group_is_whole_when_the_plan_has_nothing_to_do_with_it() -> None:
    assert statuses(OF, "UPDATE_IN_PROGRESS", *ALL, steps=(Step("join", "gpu-0"),)) == [
        "default-master UPDATE_COMPLETE None",
        "default-worker UPDATE_COMPLETE None",
        "gpu CREATE_IN_PROGRESS None",
    ]
    assert statuses(OF, "UPDATE_COMPLETE", *ALL)[2] == "gpu CREATE_COMPLETE None"


def test_a_group_fails_with_its_cluster_and_by_its_own_verb() -> None:
    failed = statuses(OF, "UPDATE_FAILED", *ALL, steps=(Step("join", "gpu-0"),))
    assert failed[1:] == ["default-worker UPDATE_COMPLETE None", "gpu CREATE_FAILED why"]


def test_an_old_node_keeps_its_group_waiting() -> None:
    groups = settled_groups(
        OF, verdict("UPDATE_IN_PROGRESS"), steps=(), nodes=there(*ALL), old=["worker-0"]
    )
    assert groups[1].status == "UPDATE_IN_PROGRESS"


def test_a_surplus_node_keeps_its_group_waiting() -> None:
    steps = (Step("delete-node", "worker-1"),)
    assert statuses(OF, "UPDATE_IN_PROGRESS", *ALL, "worker-1", steps=steps)[1] == (
        "default-worker UPDATE_IN_PROGRESS None"
    )


def test_a_group_goes_when_its_last_node_is_gone() -> None:
    going = made.group("gpu", 2, status=ClusterStatus.DELETE_IN_PROGRESS)
    of = made.cluster(1, 1, going, status="UPDATE_IN_PROGRESS")
    still = settled_groups(of, verdict("UPDATE_IN_PROGRESS"), steps=(), nodes=there("gpu-1"))
    assert [group.name for group in still][2:] == ["gpu"]
    assert still[2].status == "DELETE_IN_PROGRESS"
    gone = settled_groups(of, verdict("UPDATE_IN_PROGRESS"), steps=(), nodes=there("worker-0"))
    assert len(gone) == 2


def test_addresses_are_those_of_wanted_nodes_in_order() -> None:
    of = made.cluster(1, 12, status="UPDATE_COMPLETE")
    groups = settled_groups(
        of,
        verdict("UPDATE_COMPLETE"),
        steps=(),
        nodes=there("worker-10", "worker-9", "worker-77", "master-0"),
    )
    assert groups[1].addresses == {"worker-9": "10.0.0.1", "worker-10": "10.0.0.0"}


def test_going_back() -> None:
    now = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    before = made.groups(1, 2, status=ClusterStatus.CREATE_COMPLETE)
    of = made.cluster(1, 5, status="ROLLBACK_IN_PROGRESS", fallback=before)
    back = gone_back(of, now)
    assert [group.node_count for group in back.groups] == [1, 2]
    assert {group.status for group in back.groups} == {ClusterStatus.ROLLBACK_IN_PROGRESS}
    assert back.fallback is None
    assert back.deadline == now + datetime.timedelta(minutes=60)


def test_going_back_brings_no_group_back_that_was_to_go_even_then() -> None:
    now = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    going = made.group("gpu", 1, status=ClusterStatus.DELETE_IN_PROGRESS)
    before = (*made.groups(1, 2, status=ClusterStatus.CREATE_COMPLETE), going)
    back = gone_back(made.cluster(1, 5, status="ROLLBACK_IN_PROGRESS", fallback=before), now)
    assert back.groups[2] == going
    assert len(settled_groups(back, verdict("ROLLBACK_IN_PROGRESS"), steps=(), nodes={})) == 2
