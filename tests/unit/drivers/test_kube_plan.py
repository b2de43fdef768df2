"""The Kubernetes driver's plans, compared as text."""

from __future__ import annotations

import dataclasses

import pytest
from inline_snapshot import snapshot

from moorage.drivers.kubernetes import access
from moorage.drivers.kubernetes.health import health
from moorage.drivers.kubernetes.naming import DRAINED, LAID
from moorage.drivers.kubernetes.seen import KubeObserved, ServerSeen
from moorage.model.cluster import ClusterSpec
from moorage.model.plan import as_text
from moorage.planning.order import ordered
from tests import made
from tests.unit.drivers import kube_scene as scene
from tests.unit.drivers.kube_scene import (
    AUTHORITY,
    NOTHING,
    cluster,
    forgotten,
    member,
    mute,
    node,
    object_of,
    silent,
    stopped,
    whole,
    with_objects,
    without,
)

MASTERS = "ensure-node master-0, ensure-node master-1, ensure-node master-2"


def plan(spec: ClusterSpec, seen: KubeObserved) -> str:
    """The plan without the release, which all nodes have alike."""
    steps = scene.plan(spec, seen)
    ordered(steps)
    text = as_text(steps).replace(MASTERS, "ensure-node master-*")
    return text.replace(f" version={scene.VERSION}", "")


@pytest.mark.parametrize(("masters", "workers"), [(1, 0), (1, 2), (3, 2), (5, 0)])
def test_a_whole_cluster_needs_nothing(masters: int, workers: int) -> None:
    assert plan(cluster(masters, workers), whole(masters, workers)) == ""
    assert health(cluster(masters, workers), whole(masters, workers)).reasons == {}


def test_from_nothing_to_everything_is_one_plan() -> None:
    assert plan(cluster(), NOTHING) == snapshot("""\
ensure-node master-0
ensure-node worker-0
ensure-node worker-1
start-node master-0 etcd=found after [ensure-node master-0]
await-api master-0 after [start-node master-0]
apply-objects after [await-api master-0]
join master-0 after [await-api master-0, start-node master-0]
label-node master-0 after [join master-0]
await-node master-0 after [label-node master-0]
start-node worker-0 after [ensure-node master-0, ensure-node worker-0]
join worker-0 after [await-api master-0, start-node worker-0]
label-node worker-0 after [join worker-0]
await-node worker-0 after [label-node worker-0]
start-node worker-1 after [ensure-node master-0, ensure-node worker-1]
join worker-1 after [await-api master-0, start-node worker-1]
label-node worker-1 after [join worker-1]
await-node worker-1 after [label-node worker-1]\
""")


def test_masters_join_one_after_the_other() -> None:
    assert plan(cluster(3, 1), NOTHING) == snapshot("""\
ensure-node master-0
ensure-node master-1
ensure-node master-2
ensure-node worker-0
start-node master-0 etcd=found after [ensure-node master-*]
await-api master-0 after [start-node master-0]
start-node master-1 etcd=wait after [ensure-node master-*]
etcd-join master-1 after [await-api master-0, start-node master-1]
await-api master-1 after [etcd-join master-1]
start-node master-2 etcd=wait after [ensure-node master-*]
etcd-join master-2 after [await-api master-0, await-api master-1, start-node master-2]
await-api master-2 after [etcd-join master-2]
apply-objects after [await-api master-0]
join master-0 after [await-api master-0, start-node master-0]
label-node master-0 after [join master-0]
await-node master-0 after [label-node master-0]
join master-1 after [await-api master-0, await-api master-1, start-node master-1]
label-node master-1 after [join master-1]
await-node master-1 after [label-node master-1]
join master-2 after [await-api master-0, await-api master-2, start-node master-2]
label-node master-2 after [join master-2]
await-node master-2 after [label-node master-2]
start-node worker-0 after [ensure-node master-*, ensure-node worker-0]
join worker-0 after [await-api master-0, start-node worker-0]
label-node worker-0 after [join worker-0]
await-node worker-0 after [label-node worker-0]\
""")


def test_a_create_that_was_cut_off_goes_on_where_it_was() -> None:
    seen = mute(silent(without(whole(), "worker-1"), "master-0", "worker-0"))
    blank = dataclasses.replace(seen, has_data={"master-0": False})
    assert plan(cluster(), blank) == snapshot("""\
ensure-node worker-1
start-node master-0 etcd=found
await-api master-0 after [start-node master-0]
apply-objects after [await-api master-0]
join master-0 after [await-api master-0, start-node master-0]
label-node master-0 after [join master-0]
await-node master-0 after [label-node master-0]
start-node worker-0
join worker-0 after [await-api master-0, start-node worker-0]
label-node worker-0 after [join worker-0]
await-node worker-0 after [label-node worker-0]
start-node worker-1 after [ensure-node worker-1]
join worker-1 after [await-api master-0, start-node worker-1]
label-node worker-1 after [join worker-1]
await-node worker-1 after [label-node worker-1]\
""")
    founded = dataclasses.replace(seen, has_data={"master-0": True})
    assert plan(cluster(), founded) == snapshot("""\
ensure-node worker-1
start-node master-0 etcd=data
await-api master-0 after [start-node master-0]
join master-0 after [await-api master-0, start-node master-0]
label-node master-0 after [join master-0]
await-node master-0 after [label-node master-0]
start-node worker-0
join worker-0 after [await-api master-0, start-node worker-0]
label-node worker-0 after [join worker-0]
await-node worker-0 after [label-node worker-0]
start-node worker-1 after [ensure-node worker-1]
join worker-1 after [await-api master-0, start-node worker-1]
label-node worker-1 after [join worker-1]
await-node worker-1 after [label-node worker-1]\
""")


def test_a_lost_worker_is_replaced_and_is_another_node() -> None:
    assert plan(cluster(), without(whole(), "worker-1")) == snapshot("""\
ensure-node worker-1
start-node worker-1 after [ensure-node worker-1]
remove-node web-worker-1
join worker-1 after [remove-node web-worker-1, start-node worker-1]
label-node worker-1 after [join worker-1]
await-node worker-1 after [label-node worker-1]\
""")


def test_a_stopped_worker_is_started() -> None:
    assert plan(cluster(), stopped(whole(), "worker-1")) == snapshot("""\
ensure-node worker-1
start-node worker-1 after [ensure-node worker-1]
join worker-1 after [start-node worker-1]
label-node worker-1 after [join worker-1]
await-node worker-1 after [label-node worker-1]\
""")


def test_a_kubelet_that_ended_is_started() -> None:
    assert plan(cluster(), silent(whole(), "worker-0")) == snapshot("""\
start-node worker-0
join worker-0 after [start-node worker-0]
label-node worker-0 after [join worker-0]
await-node worker-0 briefly=yes after [label-node worker-0]\
""")


def test_a_kubelet_that_hangs_is_restarted_and_then_has_its_time() -> None:
    seen, tried = silent(whole(), "worker-0", "master-0"), {"worker-0": 3}
    assert plan(cluster(strikes={"worker-0": 2}), seen).count("briefly") == 1, "not for a master"
    restarting = plan(cluster(strikes={"worker-0": 3}), seen)
    assert "start-node worker-0 restart=yes" in restarting
    assert "briefly" not in restarting
    assert "briefly" not in plan(cluster(strikes={"worker-0": 4}, restarted=tried), seen)


def test_a_stopped_master_is_started_before_anything_is_asked() -> None:
    assert plan(cluster(), mute(stopped(whole(), "master-0"))) == snapshot("""\
ensure-node master-0
start-node master-0 etcd=data after [ensure-node master-0]
await-api master-0 after [start-node master-0]
join master-0 after [await-api master-0, start-node master-0]
label-node master-0 after [join master-0]
await-node master-0 after [label-node master-0]\
""")


def test_after_a_power_cut_everything_starts_as_it_was() -> None:
    seen = mute(stopped(whole(3, 1), "master-0", "master-1", "master-2", "worker-0"))
    assert plan(cluster(3, 1), seen) == snapshot("""\
ensure-node master-0
ensure-node master-1
ensure-node master-2
ensure-node worker-0
start-node master-0 etcd=data after [ensure-node master-*]
await-api master-0 after [start-node master-0]
start-node master-1 etcd=data after [ensure-node master-*]
await-api master-1 after [start-node master-1]
start-node master-2 etcd=data after [ensure-node master-*]
await-api master-2 after [start-node master-2]
join master-0 after [await-api master-0, start-node master-0]
label-node master-0 after [join master-0]
await-node master-0 after [label-node master-0]
join master-1 after [await-api master-0, await-api master-1, start-node master-1]
label-node master-1 after [join master-1]
await-node master-1 after [label-node master-1]
join master-2 after [await-api master-0, await-api master-2, start-node master-2]
label-node master-2 after [join master-2]
await-node master-2 after [label-node master-2]
start-node worker-0 after [ensure-node master-*, ensure-node worker-0]
join worker-0 after [await-api master-0, start-node worker-0]
label-node worker-0 after [join worker-0]
await-node worker-0 after [label-node worker-0]\
""")


def test_a_lost_master_of_three_is_replaced_by_another_member() -> None:
    assert plan(cluster(3, 0), without(whole(3, 0), "master-1")) == snapshot("""\
ensure-node master-1
start-node master-1 etcd=wait after [ensure-node master-1]
etcd-remove 101 host=master-1
etcd-join master-1 after [etcd-remove 101, start-node master-1]
await-api master-1 after [etcd-join master-1]
remove-node web-master-1
join master-1 after [await-api master-1, remove-node web-master-1, start-node master-1]
label-node master-1 after [join master-1]
await-node master-1 after [label-node master-1]\
""")


def test_a_stopped_master_of_three_is_the_member_that_it_was() -> None:
    assert plan(cluster(3, 0), stopped(whole(3, 0), "master-1")) == snapshot("""\
ensure-node master-1
start-node master-1 etcd=data after [ensure-node master-1]
await-api master-1 after [start-node master-1]
join master-1 after [await-api master-1, start-node master-1]
label-node master-1 after [join master-1]
await-node master-1 after [label-node master-1]\
""")


def test_where_most_masters_are_lost_one_goes_on_alone() -> None:
    seen = dataclasses.replace(without(whole(3, 0), "master-1", "master-2"), objects=None)
    assert plan(cluster(3, 0), seen) == snapshot("""\
ensure-node master-1
ensure-node master-2
start-node master-0 etcd=alone after [ensure-node master-1, ensure-node master-2]
await-api master-0 after [start-node master-0]
join master-0 after [await-api master-0, start-node master-0]
label-node master-0 after [join master-0]
start-node master-1 etcd=data after [ensure-node master-1, ensure-node master-2]
join master-1 after [await-api master-0, start-node master-1]
label-node master-1 after [join master-1]
await-node master-1 after [label-node master-1]
start-node master-2 etcd=data after [ensure-node master-1, ensure-node master-2]
join master-2 after [await-api master-0, start-node master-2]
label-node master-2 after [join master-2]
await-node master-2 after [label-node master-2]\
""")


def test_a_learner_that_was_left_gets_its_vote() -> None:
    seen = whole(3, 0)
    half = member(cluster(3, 0), "master-2", isLearner=True)
    kept = tuple(m for m in seen.members or () if m.id != half.id)
    seen = dataclasses.replace(seen, members=(*kept, half))
    assert plan(cluster(3, 0), seen) == snapshot("""\
etcd-join master-2
await-api master-2 after [etcd-join master-2]\
""")


def test_the_only_master_s_loss_is_the_cluster_s() -> None:
    seen = mute(without(whole(), "master-0"))
    assert plan(cluster(), seen).startswith("ensure-node master-0\nstart-node master-0")
    assert "etcd=found" in plan(cluster(), seen)
    assert "has to be deployed again" in health(cluster(), seen).reasons["api"]


def test_workers_come_and_go() -> None:
    assert plan(cluster(1, 3), whole(1, 2)) == snapshot("""\
ensure-node worker-2
start-node worker-2 after [ensure-node worker-2]
join worker-2 after [start-node worker-2]
label-node worker-2 after [join worker-2]
await-node worker-2 after [label-node worker-2]\
""")
    assert plan(cluster(1, 1), whole(1, 2)) == snapshot("""\
drain worker-1
delete-node worker-1 after [drain worker-1]
remove-node web-worker-1 after [delete-node worker-1]\
""")


def test_masters_come_and_go() -> None:
    assert plan(cluster(3, 0), whole(1, 0)) == snapshot("""\
ensure-node master-1
ensure-node master-2
start-node master-1 etcd=wait after [ensure-node master-1, ensure-node master-2]
etcd-join master-1 after [start-node master-1]
await-api master-1 after [etcd-join master-1]
start-node master-2 etcd=wait after [ensure-node master-1, ensure-node master-2]
etcd-join master-2 after [await-api master-1, start-node master-2]
await-api master-2 after [etcd-join master-2]
join master-1 after [await-api master-1, start-node master-1]
label-node master-1 after [join master-1]
await-node master-1 after [label-node master-1]
join master-2 after [await-api master-2, start-node master-2]
label-node master-2 after [join master-2]
await-node master-2 after [label-node master-2]\
""")
    grown = whole(3, 0)
    assert plan(cluster(1, 0), grown) == snapshot("""\
apply-objects
start-node master-0 etcd=data
await-api master-0 after [start-node master-0]
join master-0 after [await-api master-0, start-node master-0]
label-node master-0 after [join master-0]
drain master-1
etcd-remove 101 host=master-1 after [await-api master-0, drain master-1]
delete-node master-1 after [etcd-remove 101]
remove-node web-master-1 after [delete-node master-1]
drain master-2
etcd-remove 102 host=master-2 after [drain master-2, etcd-remove 101]
delete-node master-2 after [etcd-remove 102]
remove-node web-master-2 after [delete-node master-2]\
""")


def test_nodes_are_renewed_where_they_are() -> None:
    spec = cluster(renewing=frozenset({"worker-0"}))
    assert plan(spec, whole()) == snapshot("""\
drain worker-0
ensure-node worker-0 after [drain worker-0]
start-node worker-0 after [ensure-node worker-0]
join worker-0 after [start-node worker-0]
label-node worker-0 after [join worker-0]
await-node worker-0 after [label-node worker-0]
uncordon worker-0 after [await-node worker-0]\
""")
    assert plan(cluster(renewing=frozenset({"master-0"})), whole()) == snapshot("""\
ensure-node master-0
start-node master-0 etcd=data after [ensure-node master-0]
await-api master-0 after [start-node master-0]
join master-0 after [await-api master-0, start-node master-0]
label-node master-0 after [join master-0]
await-node master-0 after [label-node master-0]\
""")


def test_a_node_is_drained_only_where_its_pods_can_go_elsewhere() -> None:
    """A master is tainted, and a node that goes too is no place to go to."""
    assert plan(cluster(1, 1, renewing=frozenset({"worker-0"})), whole(1, 1)) == snapshot("""\
ensure-node worker-0
start-node worker-0 after [ensure-node worker-0]
join worker-0 after [start-node worker-0]
label-node worker-0 after [join worker-0]
await-node worker-0 after [label-node worker-0]\
""")
    assert plan(cluster(1, 0), whole(1, 2)) == snapshot("""\
delete-node worker-0
remove-node web-worker-0 after [delete-node worker-0]
delete-node worker-1
remove-node web-worker-1 after [delete-node worker-1]\
""")
    both = cluster(1, 2, renewing=frozenset({"worker-0", "worker-1"}))
    assert "drain" not in plan(both, whole(1, 2))


@pytest.mark.parametrize(
    ("taint", "drains"),
    [
        ({"key": "gpu", "effect": "NoSchedule"}, False),
        ({"key": "gpu", "effect": "NoExecute"}, False),
        ({"key": "gpu", "effect": "PreferNoSchedule"}, True),
    ],
)
def test_pods_get_past_the_taints_of_their_own_node_and_no_others(
    taint: dict[str, str], drains: bool
) -> None:
    spec = cluster(renewing=frozenset({"worker-0"}))
    first, second = (
        object_of(cluster(), f"worker-{n}", spec={"taints": [taint]}) for n in range(2)
    )
    assert ("drain worker-0" in plan(spec, with_objects(whole(), second))) is drains
    assert "drain worker-0" in plan(spec, with_objects(whole(), first))
    assert "drain worker-0" in plan(spec, with_objects(whole(), first, second))


def test_a_master_whose_taint_its_tenant_took_off_is_a_place_to_go_to() -> None:
    spec = cluster(1, 1, renewing=frozenset({"worker-0"}))
    open_ = object_of(spec, "master-0", spec={"taints": []})
    assert "drain worker-0" in plan(spec, with_objects(whole(1, 1), open_))


def test_what_was_drained_by_moorage_is_uncordoned_and_nothing_else() -> None:
    cordoned = {"unschedulable": True}
    ours = object_of(cluster(), "worker-0", annotations={DRAINED: "yes"}, spec=cordoned)
    assert plan(cluster(), with_objects(whole(), ours)) == snapshot("uncordon worker-0")
    theirs = object_of(cluster(), "worker-0", spec=cordoned)
    assert plan(cluster(), with_objects(whole(), theirs)) == ""


def test_an_old_node_is_left_on_its_release() -> None:
    old = dataclasses.replace(
        whole(), nodes={**whole().nodes, "worker-0": node("worker-0", revision="r0")}
    )
    spec = cluster(labels={"kube_tag": "v1.21.0"})
    steps = scene.plan(spec, silent(old, "worker-0"))
    versions = {s.node: s.detail["version"] for s in steps if s.verb == "start-node"}
    assert versions["worker-0"] == "v1.20.2"


def test_another_ca_comes_node_by_node() -> None:
    other = ServerSeen(revision="0123456789abcdef")
    seen = whole()
    seen = dataclasses.replace(
        seen,
        kubelets=dict.fromkeys(seen.kubelets, other),
        apis=dict.fromkeys(seen.apis, other),
    )
    assert plan(cluster(), seen) == snapshot("""\
trust master-0 etcd=data
trust worker-0
trust worker-1\
""")


def test_a_node_that_was_started_with_something_else_is_started_again() -> None:
    former = object_of(cluster(), "worker-0", annotations={LAID: "another"})
    assert plan(cluster(), with_objects(whole(), former)) == snapshot("""\
start-node worker-0
join worker-0 after [start-node worker-0]
label-node worker-0 after [join worker-0]\
""")


def test_a_group_s_labels_reach_its_nodes() -> None:
    more = made.spec_group("gpu", 1, labels={"disk": "ssd"})
    plain = dataclasses.replace(more, labels={})
    seen = with_objects(whole(1, 1, more), object_of(cluster(1, 1, plain), "gpu-0"))
    assert plan(cluster(1, 1, more), seen) == snapshot("label-node gpu-0")


def test_a_node_that_is_not_ready_is_awaited_then_restarted_then_given_up() -> None:
    seen = with_objects(whole(), object_of(cluster(), "worker-0", ready="False"))
    assert plan(cluster(), seen) == snapshot("await-node worker-0")
    assert plan(cluster(strikes={"worker-0": 3}), seen) == snapshot("""\
start-node worker-0 restart=yes
join worker-0 after [start-node worker-0]
label-node worker-0 after [join worker-0]
await-node worker-0 after [label-node worker-0]\
""")
    tried = {"worker-0": 3}
    assert plan(cluster(strikes={"worker-0": 4}, restarted=tried), seen) == "await-node worker-0"
    late = cluster(strikes={"worker-0": 5}, restarted=tried)
    assert plan(late, seen) == snapshot("delete-node worker-0")


def test_a_master_that_hangs_is_restarted_once() -> None:
    """Also the only one, which is not given up whatever comes of it."""
    seen = mute(silent(whole(), "master-0"))
    restarting = "start-node master-0 etcd=data restart=yes"
    assert restarting not in plan(cluster(strikes={"master-0": 2}), seen)
    assert restarting in plan(cluster(strikes={"master-0": 3}), seen)
    tried = {"master-0": 3}
    assert restarting not in plan(cluster(strikes={"master-0": 9}, restarted=tried), seen)


def test_an_api_server_that_is_not_ready_for_long_is_restarted_with_its_etcd() -> None:
    """Its etcd hangs, which the API server tells of, and nobody else is asked."""
    hung = ServerSeen(trouble="not ready: etcd", revision=AUTHORITY.revision)
    seen = mute(dataclasses.replace(whole(), apis={"master-0": hung}))
    assert seen.useless(cluster()) == {"master-0"}
    restarting = "start-node master-0 etcd=data restart=yes"
    assert restarting not in plan(cluster(strikes={"master-0": 2}), seen)
    assert restarting in plan(cluster(strikes={"master-0": 3}), seen)
    assert "delete-node" not in plan(cluster(strikes={"master-0": 30}), seen)


def test_the_only_master_is_never_given_up() -> None:
    seen = mute(silent(whole(), "master-0"))
    assert "delete-node" not in plan(cluster(strikes={"master-0": 30}), seen)


def test_one_of_three_masters_may_be_given_up() -> None:
    seen = silent(whole(3, 0), "master-1")
    assert plan(cluster(3, 0, strikes={"master-1": 5}), seen) == snapshot("delete-node master-1")


def test_nodes_that_are_no_more_are_removed() -> None:
    seen = without(whole(1, 2), "worker-1")
    assert plan(cluster(1, 1), seen) == snapshot("remove-node web-worker-1")
    assert plan(cluster(1, 1), forgotten(seen, "worker-1")) == ""


def published(seen: KubeObserved, name: str) -> KubeObserved:
    """The cluster's address leads to that node."""
    nodes = {n: dataclasses.replace(each, published=n == name) for n, each in seen.nodes.items()}
    return dataclasses.replace(seen, nodes=nodes)


def test_the_address_leads_to_an_api_server_that_is_ready() -> None:
    spec, seen = cluster(3, 1), published(whole(3, 1), "master-0")
    assert plan(spec, seen) == ""
    gone = plan(spec, published(stopped(seen, "master-0"), "master-0")).splitlines()
    assert gone[0] == "publish master-1"
    assert "start-node master-0" in gone[2]
    assert "publish master-1" in gone[2]
    hung = plan(spec, silent(seen, "master-0")).splitlines()
    assert hung[0] == "publish master-1"


def test_a_master_is_renewed_when_the_address_leads_elsewhere() -> None:
    spec = dataclasses.replace(cluster(3, 1), renewing=frozenset({"master-0"}))
    told = plan(spec, published(whole(3, 1), "master-0")).splitlines()
    assert told[0] == "publish master-1"
    assert next(line for line in told if line.startswith("ensure-node")) == (
        "ensure-node master-0 after [publish master-1]"
    )
    elsewhere = plan(spec, published(whole(3, 1), "master-2"))
    assert "publish" not in elsewhere


def test_masters_that_are_laid_otherwise_start_again_one_after_the_other() -> None:
    """And the address leads past the one that does."""
    spec = cluster(3, 1)
    seen = published(whole(3, 1), "master-0")
    others = [
        each.model_copy(
            update={
                "metadata": each.metadata.model_copy(
                    update={"annotations": {**each.metadata.annotations, LAID: "0123"}}
                )
            }
        )
        for each in seen.objects or ()
        if "master" in each.name
    ]
    told = plan(spec, with_objects(seen, *others))
    kept = [
        line for line in told.splitlines() if line.startswith(("publish", "start", "await-api"))
    ]
    assert kept == snapshot(
        [
            "publish master-2",
            "publish master-0 after [await-api master-0, join master-0, label-node master-0, "
            "start-node master-0]",
            "start-node master-0 etcd=data after [publish master-2]",
            "await-api master-0 after [start-node master-0]",
            "start-node master-1 etcd=data after [await-api master-0]",
            "await-api master-1 after [start-node master-1]",
            "start-node master-2 etcd=data after [await-api master-1, publish master-0]",
            "await-api master-2 after [start-node master-2]",
        ]
    )


@pytest.mark.parametrize("gone", sorted(access.paths()))
def test_an_object_of_ours_that_is_gone_is_made_again(gone: str) -> None:
    """Whoever is an admin of the cluster may delete it: without some, logs and names end."""
    seen = dataclasses.replace(whole(3, 1), own=access.paths() - {gone})
    assert plan(cluster(3, 1), seen) == snapshot("apply-objects")
    assert plan(cluster(3, 1), mute(seen)) == plan(cluster(3, 1), mute(whole(3, 1)))


def test_all_of_ours_are_labelled_and_what_else_has_the_label_is_nothing_to_us() -> None:
    key, value = access.LABEL
    made_of = access.objects("10.254.0.10", ["10.128.0.2"])
    assert {each["metadata"]["labels"][key] for each in made_of.values()} == {value}
    assert set(made_of) == access.paths()
    more = dataclasses.replace(whole(), own=access.paths() | {"/api/v1/namespaces/x/services/y"})
    assert plan(cluster(), more) == ""
