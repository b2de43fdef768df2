"""What the swarm driver plans when its cluster is changed: groups, renewals, CA, tokens."""

from __future__ import annotations

import dataclasses

import pytest
from inline_snapshot import snapshot

from moorage.drivers.hostnames import hostname, node_of
from moorage.drivers.swarm.naming import labels
from moorage.drivers.swarm.reconcile import reconcile
from moorage.drivers.swarm.seen import SwarmObserved
from moorage.model.cluster import ClusterSpec, Rotation
from moorage.model.nodegroup import Taint
from moorage.model.plan import as_text
from moorage.model.ports import CaKeys
from moorage.planning.order import ordered
from moorage.trust import ClusterAuthority, new_ca
from tests import made
from tests.unit.drivers.swarm_scene import (
    cluster,
    leaderless,
    member,
    silent,
    stopped,
    whole,
    with_engine,
    with_members,
)

GPU = made.spec_group("gpu", 2, labels={"disk": "ssd"}, taints=(Taint("gpu", "NoSchedule", "a"),))


def plan(spec: ClusterSpec, seen: SwarmObserved) -> str:
    steps = reconcile(spec, seen)
    ordered(steps)
    return as_text(steps)


def with_gpus(seen: SwarmObserved | None = None) -> SwarmObserved:
    given = [member(name, labels=labels(GPU)) for name in GPU.nodes]
    return with_members(seen or whole(1, 2, GPU), *given)


# Groups


def test_labels_and_taints_of_a_group_are_labels_of_its_members() -> None:
    assert labels(GPU) == {
        "disk": "ssd",
        "moorage.taint.gpu.NoSchedule": "a",
        "moorage.role": "worker",
        "moorage.group": "gpu",
        "moorage.labels": "disk moorage.taint.gpu.NoSchedule",
    }


def test_every_effect_of_a_taint_s_key_is_a_label() -> None:
    taints = (Taint("gpu", "NoSchedule", "a"), Taint("gpu", "NoExecute"), Taint("a", "NoExecute"))
    found = labels(made.spec_group("gpu", 1, taints=taints))
    assert {name: value for name, value in found.items() if ".taint." in name} == {
        "moorage.taint.gpu.NoSchedule": "a",
        "moorage.taint.gpu.NoExecute": "true",
        "moorage.taint.a.NoExecute": "true",
    }


def test_a_whole_cluster_with_groups_needs_nothing() -> None:
    assert plan(cluster(1, 2, GPU), with_gpus()) == ""


def test_a_label_that_is_missing_or_too_many_is_one_step() -> None:
    bare = dataclasses.replace(GPU, labels={}, taints=())
    assert plan(cluster(1, 2, bare), with_gpus()) == snapshot("""\
label-node gpu-0 moorage.group=gpu moorage.role=worker
label-node gpu-1 moorage.group=gpu moorage.role=worker\
""")
    steps = reconcile(cluster(1, 2, GPU), whole(1, 2, GPU))
    assert [step.key for step in steps] == ["label-node gpu-0", "label-node gpu-1"]
    assert [step.detail for step in steps] == [labels(GPU)] * 2


def test_a_new_group_joins() -> None:
    assert plan(cluster(1, 2, made.spec_group("gpu", 1)), whole()) == snapshot("""\
ensure-node gpu-0
start-engine gpu-0 after [ensure-node gpu-0]
join gpu-0 role=worker after [start-engine gpu-0]
label-node gpu-0 moorage.group=gpu moorage.role=worker after [join gpu-0]\
""")


def test_a_group_that_went_is_drained_and_deleted() -> None:
    assert plan(cluster(), with_gpus()) == snapshot("""\
drain gpu-0 id=gpu0
leave gpu-0 after [drain gpu-0]
remove-member gpu0 host=web-gpu-0 after [leave gpu-0]
delete-node gpu-0 after [remove-member gpu0]
drain gpu-1 id=gpu1
leave gpu-1 after [drain gpu-1]
remove-member gpu1 host=web-gpu-1 after [leave gpu-1]
delete-node gpu-1 after [remove-member gpu1]\
""")


def test_a_node_from_the_middle_goes() -> None:
    fewer = made.spec_group("default-worker", 0, nodes=("worker-0", "worker-2"))
    of = dataclasses.replace(cluster(1, 3), groups=(cluster().groups[0], fewer))
    assert plan(of, whole(1, 3)) == snapshot("""\
drain worker-1 id=worker1
leave worker-1 after [drain worker-1]
remove-member worker1 host=web-worker-1 after [leave worker-1]
delete-node worker-1 after [remove-member worker1]\
""")


@pytest.mark.parametrize(
    ("name", "node"),
    [("web", "gpu-0"), ("web-shop", "gpu-big-12"), ("Web Shop", "worker-3"), ("a" * 80, "gpu-1")],
)
def test_a_hosts_name_leads_back_to_its_node(name: str, node: str) -> None:
    assert node_of(name, hostname(name, node)) == node
    assert node_of("other", hostname(name, node)) != node or name == "other"


# Renewing


def test_a_worker_is_drained_renewed_and_brought_back() -> None:
    of = cluster(1, 2, renewing=frozenset({"worker-1"}))
    assert plan(of, whole()) == snapshot("""\
drain worker-1 id=worker1 moorage.drained=active
ensure-node worker-1 after [drain worker-1]
start-engine worker-1 after [ensure-node worker-1]
await-member worker-1 after [start-engine worker-1]
activate worker-1 id=worker1 after [await-member worker-1]\
""")


def test_two_at_once() -> None:
    of = cluster(1, 2, renewing=frozenset({"worker-0", "worker-1"}))
    assert plan(of, whole()) == snapshot("""\
drain worker-0 id=worker0 moorage.drained=active
drain worker-1 id=worker1 moorage.drained=active
ensure-node worker-0 after [drain worker-0]
ensure-node worker-1 after [drain worker-1]
start-engine worker-0 after [ensure-node worker-0]
start-engine worker-1 after [ensure-node worker-1]
await-member worker-0 after [start-engine worker-0]
activate worker-0 id=worker0 after [await-member worker-0]
await-member worker-1 after [start-engine worker-1]
activate worker-1 id=worker1 after [await-member worker-1]\
""")


def test_the_only_node_is_renewed_where_it_is() -> None:
    assert plan(cluster(1, 0, renewing=frozenset({"master-0"})), whole(1, 0)) == snapshot("""\
ensure-node master-0
start-engine master-0 after [ensure-node master-0]
await-member master-0 after [start-engine master-0]\
""")


def test_one_of_three_masters() -> None:
    assert plan(cluster(3, 0, renewing=frozenset({"master-1"})), whole(3, 0)) == snapshot("""\
drain master-1 id=master1 moorage.drained=active
ensure-node master-1 after [drain master-1]
start-engine master-1 after [ensure-node master-1]
await-member master-1 after [start-engine master-1]
activate master-1 id=master1 after [await-member master-1]
await-member master-0 after [await-member master-1]
await-member master-2 after [await-member master-1]\
""")


def test_a_manager_is_renewed_when_its_members_are_back_too() -> None:
    assert plan(cluster(1, 1, renewing=frozenset({"master-0"})), whole(1, 1)) == snapshot("""\
drain master-0 id=master0 moorage.drained=active
ensure-node master-0 after [drain master-0]
start-engine master-0 after [ensure-node master-0]
await-member master-0 after [start-engine master-0]
activate master-0 id=master0 after [await-member master-0]
await-member worker-0 after [await-member master-0]\
""")


def test_what_a_tenant_drained_stays_drained() -> None:
    drained = with_members(whole(), member("worker-1", availability="drain"))
    assert plan(cluster(), drained) == ""
    of = cluster(1, 2, renewing=frozenset({"worker-1"}))
    assert plan(of, drained) == snapshot("""\
drain worker-1 id=worker1
ensure-node worker-1 after [drain worker-1]
start-engine worker-1 after [ensure-node worker-1]
await-member worker-1 after [start-engine worker-1]\
""")


def test_what_a_tenant_paused_is_paused_again() -> None:
    paused = with_members(whole(), member("worker-1", availability="pause"))
    assert plan(cluster(), paused) == ""
    of = cluster(1, 2, renewing=frozenset({"worker-1"}))
    assert plan(of, paused) == snapshot("""\
drain worker-1 id=worker1 moorage.drained=pause
ensure-node worker-1 after [drain worker-1]
start-engine worker-1 after [ensure-node worker-1]
await-member worker-1 after [start-engine worker-1]
activate worker-1 id=worker1 to=pause after [await-member worker-1]\
""")
    marked = {**labels(made.spec_group("default-worker", 1)), "moorage.drained": "pause"}
    left = with_members(whole(), member("worker-1", availability="drain", labels=marked))
    assert plan(cluster(), left) == snapshot("activate worker-1 id=worker1 to=pause")


def test_what_moorage_drained_and_left_is_brought_back() -> None:
    marked = {**labels(made.spec_group("default-worker", 1)), "moorage.drained": "active"}
    left = with_members(whole(), member("worker-1", availability="drain", labels=marked))
    assert plan(cluster(), left) == snapshot("activate worker-1 id=worker1")
    assert "activate" not in plan(cluster(), silent(left, "worker-1"))


def test_an_old_node_that_is_off_is_renewed_as_it_starts() -> None:
    of = cluster(1, 2, renewing=frozenset({"worker-1"}))
    assert plan(of, stopped(whole(), "worker-1")) == snapshot("""\
drain worker-1 id=worker1 moorage.drained=active
ensure-node worker-1 after [drain worker-1]
start-engine worker-1 after [ensure-node worker-1]
await-member worker-1 after [start-engine worker-1]
activate worker-1 id=worker1 after [await-member worker-1]\
""")


# The CA


def changing(phase: Rotation) -> ClusterSpec:
    keys = CaKeys(new_ca("one"), new_ca("two"), phase)
    return dataclasses.replace(cluster(), authority=ClusterAuthority(keys))


@pytest.mark.parametrize("phase", list(Rotation))
def test_every_node_is_told_whom_to_trust(phase: Rotation) -> None:
    assert plan(changing(phase), whole()) == snapshot("""\
trust master-0
trust worker-0
trust worker-1\
""")


def test_a_node_that_knows_already_is_left_alone() -> None:
    of = changing(Rotation.TRUST)
    seen = whole()
    told = dataclasses.replace(seen.engines["worker-0"], revision=of.authority.revision)
    seen = dataclasses.replace(seen, engines={**seen.engines, "worker-0": told})
    assert "worker-0" not in plan(of, seen)


def test_a_node_of_an_older_moorage_has_its_engine_started_again() -> None:
    seen = whole(1, 0)
    former = dataclasses.replace(seen.engines["master-0"], revision="")
    seen = dataclasses.replace(seen, engines={"master-0": former})
    assert plan(cluster(1, 0), seen) == snapshot("start-engine master-0 restart=yes")


# Tokens


def noted(seen: SwarmObserved, times: str) -> SwarmObserved:
    """Every manager tells that the tokens were exchanged so often."""
    for name in seen.managers():
        labels = {"moorage.credentials": times}
        seen = with_engine(seen, name, "active", swarm_labels=labels)
    return seen


def test_tokens_are_exchanged_once_and_before_anyone_joins() -> None:
    of = cluster(1, 2, made.spec_group("gpu", 1), credentials=2)
    assert plan(of, whole()) == snapshot("""\
ensure-node gpu-0
start-engine gpu-0 after [ensure-node gpu-0]
rotate-tokens times=2
join gpu-0 role=worker after [rotate-tokens, start-engine gpu-0]
label-node gpu-0 moorage.group=gpu moorage.role=worker after [join gpu-0]\
""")
    assert plan(cluster(1, 2, credentials=2), noted(whole(), "2")) == ""
    assert plan(cluster(1, 2, credentials=3), noted(whole(), "2")) == snapshot(
        "rotate-tokens times=3"
    )


def test_the_newest_of_the_managers_notes_counts() -> None:
    of, seen = cluster(3, 0, credentials=2), noted(whole(3, 0), "2")
    behind = with_engine(seen, "master-0", "active", swarm_labels={"moorage.credentials": "1"})
    assert plan(of, behind) == ""
    stranger = with_engine(noted(whole(3, 0), "1"), "master-2", "active", node_id="elsewhere")
    assert stranger.credentials() == 1


@pytest.mark.parametrize("text", ["", "-1", "two", "٣", "9" * 5000])
def test_a_note_that_is_not_ours_says_nothing(text: str) -> None:
    assert noted(whole(), text).credentials() == 0


def test_tokens_wait_for_a_swarm_that_can_be_asked() -> None:
    assert "rotate-tokens" not in plan(cluster(3, 0, credentials=1), leaderless(whole(3, 0)))
