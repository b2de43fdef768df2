"""Kubernetes with its control plane hosted: plans as text, and what its masters have."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from inline_snapshot import snapshot

from moorage.drivers.kubernetes import control_plane, hosting, laying, script
from moorage.drivers.kubernetes.health import health
from moorage.drivers.kubernetes.naming import marks
from moorage.drivers.kubernetes.place import group_of
from moorage.drivers.kubernetes.seen import ServerSeen
from moorage.model.node import Role
from tests.unit.drivers import kube_scene as scene
from tests.unit.drivers.kube_scene import (
    AUTHORITY,
    NOTHING,
    VERSION,
    hosted,
    mute,
    node,
    object_of,
    place,
    silent,
    stopped,
    whole_hosted,
    with_objects,
    without,
)
from tests.unit.drivers.test_kube_plan import plan

MASTER, WORKER = place("master-0", hosted()), place("worker-0", hosted())
OF_MASTER = marks(group_of(hosted(), "master-0"), VERSION)


@pytest.mark.parametrize(("masters", "workers"), [(1, 0), (1, 2), (3, 2)])
def test_a_whole_cluster_needs_nothing(masters: int, workers: int) -> None:
    spec, seen = hosted(masters, workers), whole_hosted(masters, workers)
    assert plan(spec, seen) == ""
    assert health(spec, seen).reasons == {}
    assert seen.useless(spec) == frozenset()


def test_from_nothing_to_everything_is_one_plan() -> None:
    assert plan(hosted(), NOTHING) == snapshot("""\
ensure-node master-0
ensure-node worker-0
ensure-node worker-1
start-node master-0 etcd=found after [ensure-node master-0]
await-api master-0 after [start-node master-0]
apply-objects after [await-api master-0]
join master-0 after [await-api master-0, start-node master-0]
note-start master-0 after [apply-objects, join master-0]
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
    assert plan(hosted(3, 0), NOTHING) == snapshot("""\
ensure-node master-0
ensure-node master-1
ensure-node master-2
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
note-start master-0 after [apply-objects, join master-0]
join master-1 after [await-api master-0, await-api master-1, start-node master-1]
note-start master-1 after [apply-objects, join master-1]
join master-2 after [await-api master-0, await-api master-2, start-node master-2]
note-start master-2 after [apply-objects, join master-2]\
""")


def test_a_stopped_master_is_started_with_its_data() -> None:
    assert plan(hosted(), mute(stopped(whole_hosted(), "master-0"))) == snapshot("""\
ensure-node master-0
start-node master-0 etcd=data after [ensure-node master-0]
await-api master-0 after [start-node master-0]
join master-0 after [await-api master-0, start-node master-0]
note-start master-0 after [join master-0]\
""")


def test_programs_that_ended_are_started() -> None:
    """With data on its disk there is nothing to found."""
    seen = mute(silent(whole_hosted(), "master-0"))
    seen = dataclasses.replace(
        seen,
        kubelets={n: each for n, each in seen.kubelets.items() if n != "master-0"},
        has_data={"master-0": True},
    )
    assert plan(hosted(), seen) == snapshot("""\
start-node master-0 etcd=data
await-api master-0 after [start-node master-0]
join master-0 after [await-api master-0, start-node master-0]
note-start master-0 after [join master-0]\
""")
    assert health(hosted(), seen).reasons["master-0"] == "master-0 is off"
    assert seen.useless(hosted()) == {"master-0"}


def test_a_lost_master_of_three_is_replaced_by_another_member() -> None:
    assert plan(hosted(3, 0), without(whole_hosted(3, 0), "master-1")) == snapshot("""\
ensure-node master-1
start-node master-1 etcd=wait after [ensure-node master-1]
etcd-remove 101 host=master-1
etcd-join master-1 after [etcd-remove 101, start-node master-1]
await-api master-1 after [etcd-join master-1]
join master-1 after [await-api master-1, start-node master-1]
note-start master-1 after [join master-1]\
""")


def test_where_most_masters_are_lost_one_goes_on_alone() -> None:
    seen = without(whole_hosted(3, 0), "master-1", "master-2")
    assert plan(hosted(3, 0), dataclasses.replace(seen, objects=None)) == snapshot("""\
ensure-node master-1
ensure-node master-2
start-node master-0 etcd=alone after [ensure-node master-1, ensure-node master-2]
await-api master-0 after [start-node master-0]
join master-0 after [await-api master-0, start-node master-0]
note-start master-0 after [join master-0]
start-node master-1 etcd=data after [ensure-node master-1, ensure-node master-2]
join master-1 after [await-api master-0, start-node master-1]
note-start master-1 after [join master-1]
start-node master-2 etcd=data after [ensure-node master-1, ensure-node master-2]
join master-2 after [await-api master-0, start-node master-2]
note-start master-2 after [join master-2]\
""")


def test_masters_come_and_go() -> None:
    """The others are not started again for it: none of their programs is told of it."""
    assert plan(hosted(3, 0), whole_hosted(1, 0)) == snapshot("""\
ensure-node master-1
ensure-node master-2
start-node master-1 etcd=wait after [ensure-node master-1, ensure-node master-2]
etcd-join master-1 after [start-node master-1]
await-api master-1 after [etcd-join master-1]
start-node master-2 etcd=wait after [ensure-node master-1, ensure-node master-2]
etcd-join master-2 after [await-api master-1, start-node master-2]
await-api master-2 after [etcd-join master-2]
join master-1 after [await-api master-1, start-node master-1]
note-start master-1 after [join master-1]
join master-2 after [await-api master-2, start-node master-2]
note-start master-2 after [join master-2]\
""")
    assert plan(hosted(1, 0), whole_hosted(3, 0)) == snapshot("""\
apply-objects
etcd-remove 101 host=master-1
delete-node master-1 after [etcd-remove 101]
etcd-remove 102 host=master-2 after [etcd-remove 101]
delete-node master-2 after [etcd-remove 102]\
""")


def test_workers_come_and_go() -> None:
    assert plan(hosted(1, 1), whole_hosted(1, 2)) == snapshot("""\
drain worker-1
delete-node worker-1 after [drain worker-1]
remove-node web-worker-1 after [delete-node worker-1]\
""")


def test_a_master_is_renewed_where_it_is() -> None:
    assert plan(hosted(renewing=frozenset({"master-0"})), whole_hosted()) == snapshot("""\
ensure-node master-0
start-node master-0 etcd=data after [ensure-node master-0]
await-api master-0 after [start-node master-0]
join master-0 after [await-api master-0, start-node master-0]
note-start master-0 after [join master-0]\
""")


def test_another_ca_needs_no_kubelet_of_a_master() -> None:
    other = ServerSeen(revision="0123456789abcdef")
    seen = whole_hosted()
    seen = dataclasses.replace(
        seen,
        kubelets=dict.fromkeys(seen.kubelets, other),
        apis=dict.fromkeys(seen.apis, other),
    )
    assert plan(hosted(), seen) == snapshot("""\
trust master-0 etcd=data
trust worker-0
trust worker-1\
""")


@pytest.mark.parametrize("note", ["", "v1.20.2 0123456789abcdef", "x" * 300])
def test_a_master_that_was_started_with_something_else_is_started_again(note: str) -> None:
    seen = dataclasses.replace(whole_hosted(), notes={"master-0": note})
    assert (
        plan(hosted(), seen)
        == """\
start-node master-0 etcd=data
await-api master-0 after [start-node master-0]
join master-0 after [await-api master-0, start-node master-0]
note-start master-0 after [join master-0]\
"""
    )


def test_an_old_master_is_left_on_its_release() -> None:
    former = whole_hosted()
    old = dataclasses.replace(
        former, nodes={**former.nodes, "master-0": node("master-0", revision="r0")}
    )
    spec = hosted()
    spec = dataclasses.replace(spec, labels={**spec.labels, "kube_tag": "v1.21.0"})
    mine = [s for s in scene.plan(spec, old) if s.node == "master-0"]
    assert mine == [], "what it has is what it should have, until its turn comes"
    steps = scene.plan(spec, mute(stopped(old, "master-0")))
    versions = {s.verb: s.detail["version"] for s in steps if "version" in s.detail}
    assert versions["note-start"] == "v1.21.0", "for it is made anew"


def test_a_master_that_never_answers_is_restarted_and_kept() -> None:
    seen = mute(silent(whole_hosted(), "master-0"))
    assert "restart=yes" not in plan(hosted(strikes={"master-0": 2}), seen)
    assert "delete-node" not in plan(hosted(strikes={"master-0": 30}), seen)
    three = silent(whole_hosted(3, 0), "master-1")
    assert plan(hosted(3, 0, strikes={"master-1": 5}), three) == "delete-node master-1"


def test_a_tenant_s_own_node_of_a_master_s_name_means_nothing() -> None:
    fake = object_of(hosted(), "master-0", ready="False")
    fake = fake.model_copy(update={"spec": fake.spec.model_copy(update={"taints": []})})
    seen = with_objects(whole_hosted(), fake)
    assert plan(hosted(), seen) == ""
    assert health(hosted(), seen).reasons == {}


def test_a_hosted_master_has_what_its_programs_need_and_nothing_for_pods() -> None:
    laid = laying.lay(MASTER, OF_MASTER, AUTHORITY)
    assert " ".join(service.name for service in laid.services) == snapshot(
        "etcd kube-apiserver kube-controller-manager kube-scheduler dns dns-feed"
    )
    names = {Path(path).name for path in {**laid.files, **script.extras(MASTER)}}
    assert not {name for name in names if name.startswith(("kubelet.", "proxy.", "containerd"))}
    assert not names & {"nat", "pause", "10-moorage.conflist"}
    assert script.needs(MASTER) == snapshot(
        "runsvdir sv svlogd ip etcd pdns_recursor rec_control curl bash busybox"
    )
    assert all(path.startswith("/run/") for path in laid.files), "nothing on its disk but etcd's"


def test_its_api_server_finds_services_by_their_endpoints() -> None:
    assert "--enable-aggregator-routing=true" in control_plane.apiserver(MASTER).argv
    on_node = place("master-0", scene.cluster())
    assert "--enable-aggregator-routing=true" not in control_plane.apiserver(on_node).argv
    assert f"route replace {WORKER.pods} via {WORKER.address}\n" in script.routes(MASTER)


def test_its_programs_ask_the_api_server_beside_them() -> None:
    of_three = place("master-0", hosted(3, 0))
    assert of_three.api == MASTER.api == "https://127.0.0.1:6443"
    assert not of_three.has_front
    assert place("worker-0", hosted(3, 1)).has_front


def test_what_is_noted_of_masters_is_read_from_annotations_and_not_believed() -> None:
    read = hosting.notes({"moorage.org/laid.master-0": "x", "moorage.org/applied": "y"})
    assert read == {"master-0": "x"}
    assert hosting.noted_version(hosting.note("v1.20.2", "0" * 16)) == "v1.20.2"
    for text in ("", "v1.20.2", "v9.0.0 " + "0" * 16, "$(reboot) " + "0" * 16):
        assert hosting.noted_version(text) == ""


def test_workers_are_as_in_any_cluster() -> None:
    assert dataclasses.replace(WORKER, endpoint="") == dataclasses.replace(
        place("worker-0"), endpoint=""
    )
    assert not hosting.runs_pods(hosted(), Role.MASTER)
    assert hosting.runs_pods(scene.cluster(), Role.MASTER)
