"""The swarm driver's plans, compared as text."""

from __future__ import annotations

import dataclasses

import pytest
from inline_snapshot import snapshot

from moorage.drivers.swarm.reconcile import reconcile
from moorage.drivers.swarm.seen import EngineSeen, SwarmObserved
from moorage.model.cluster import ClusterSpec
from moorage.model.node import NodeState
from moorage.model.plan import as_text
from moorage.planning.order import ordered
from tests.unit.drivers.swarm_scene import (
    cluster,
    leaderless,
    member,
    node,
    silent,
    stopped,
    whole,
    with_engine,
    with_members,
    without,
)

NOTHING = SwarmObserved(nodes={})


def plan(spec: ClusterSpec, seen: SwarmObserved) -> str:
    """The plan without the details that follow from the node's name."""
    steps = reconcile(spec, seen)
    ordered(steps)
    told = {"label-node", "join"}
    return as_text(dataclasses.replace(s, detail={}) if s.verb in told else s for s in steps)


@pytest.mark.parametrize(("masters", "workers"), [(1, 0), (1, 2), (3, 2), (5, 0)])
def test_a_whole_cluster_needs_nothing(masters: int, workers: int) -> None:
    assert plan(cluster(masters, workers), whole(masters, workers)) == ""


def test_from_nothing_to_everything_is_one_plan() -> None:
    assert plan(cluster(), NOTHING) == snapshot("""\
ensure-node master-0
ensure-node worker-0
ensure-node worker-1
start-engine master-0 after [ensure-node master-0]
start-engine worker-0 after [ensure-node worker-0]
start-engine worker-1 after [ensure-node worker-1]
init-swarm master-0 after [start-engine master-0]
label-node master-0 after [init-swarm master-0]
await-member master-0 after [init-swarm master-0]
join worker-0 after [init-swarm master-0, start-engine worker-0]
label-node worker-0 after [join worker-0]
join worker-1 after [init-swarm master-0, start-engine worker-1]
label-node worker-1 after [join worker-1]\
""")


def test_masters_join_one_after_the_other() -> None:
    assert plan(cluster(3, 1), NOTHING) == snapshot("""\
ensure-node master-0
ensure-node master-1
ensure-node master-2
ensure-node worker-0
start-engine master-0 after [ensure-node master-0]
start-engine master-1 after [ensure-node master-1]
start-engine master-2 after [ensure-node master-2]
start-engine worker-0 after [ensure-node worker-0]
init-swarm master-0 after [start-engine master-0]
label-node master-0 after [init-swarm master-0]
await-member master-0 after [init-swarm master-0]
join master-1 after [init-swarm master-0, start-engine master-1]
label-node master-1 after [join master-1]
join master-2 after [init-swarm master-0, join master-1, start-engine master-2]
label-node master-2 after [join master-2]
join worker-0 after [init-swarm master-0, start-engine worker-0]
label-node worker-0 after [join worker-0]\
""")


def test_a_create_that_was_cut_off_goes_on_where_it_was() -> None:
    seen = with_engine(with_engine(NOTHING, "master-0", "inactive"), "worker-0", "inactive")
    assert plan(cluster(), leaderless(seen)) == snapshot("""\
ensure-node worker-1
start-engine worker-1 after [ensure-node worker-1]
init-swarm master-0
label-node master-0 after [init-swarm master-0]
await-member master-0 after [init-swarm master-0]
join worker-0 after [init-swarm master-0]
label-node worker-0 after [join worker-0]
join worker-1 after [init-swarm master-0, start-engine worker-1]
label-node worker-1 after [join worker-1]\
""")


def test_a_worker_that_has_not_joined_yet_joins() -> None:
    seen = with_engine(without(whole(), "worker-1"), "worker-1", "inactive")
    seen = dataclasses.replace(
        seen, members=tuple(m for m in whole().members or () if m.id != "worker1")
    )
    assert plan(cluster(), seen) == snapshot("""\
join worker-1
label-node worker-1 after [join worker-1]\
""")


def test_a_lost_worker_is_replaced() -> None:
    assert plan(cluster(), without(whole(), "worker-1")) == snapshot("""\
ensure-node worker-1
start-engine worker-1 after [ensure-node worker-1]
remove-member worker1 host=web-worker-1
join worker-1 after [remove-member worker1, start-engine worker-1]
label-node worker-1 after [join worker-1]\
""")


def test_a_broken_worker_is_remade() -> None:
    gone = without(whole(), "worker-1")
    broken = {"worker-1": node("worker-1", NodeState.BROKEN, "half deleted")}
    seen = dataclasses.replace(gone, nodes={**gone.nodes, **broken})
    assert plan(cluster(), seen) == snapshot("""\
delete-node worker-1
ensure-node worker-1 after [delete-node worker-1]
start-engine worker-1 after [ensure-node worker-1]
remove-member worker1 host=web-worker-1
join worker-1 after [remove-member worker1, start-engine worker-1]
label-node worker-1 after [join worker-1]\
""")


def test_a_new_worker_in_the_place_of_a_lost_one_is_not_the_old_member() -> None:
    seen = with_engine(without(whole(), "worker-1"), "worker-1", "inactive")
    assert plan(cluster(), seen) == snapshot("""\
remove-member worker1 host=web-worker-1
join worker-1 after [remove-member worker1]
label-node worker-1 after [join worker-1]\
""")


def test_a_stopped_worker_is_started_and_is_the_member_that_it_was() -> None:
    assert plan(cluster(), stopped(whole(), "worker-1")) == snapshot("""\
ensure-node worker-1
start-engine worker-1 after [ensure-node worker-1]
await-member worker-1 after [start-engine worker-1]\
""")


def test_an_engine_that_ended_is_started() -> None:
    assert plan(cluster(), silent(whole(), "worker-0")) == snapshot("""\
start-engine worker-0
await-member worker-0 after [start-engine worker-0]\
""")


def test_a_worker_whose_engine_never_comes_is_given_up() -> None:
    seen = silent(whole(), "worker-0")
    assert plan(cluster(attempts=30), seen).startswith("start-engine")
    assert plan(cluster(strikes={"worker-0": 3}), seen) == snapshot("delete-node worker-0")


def test_the_only_master_is_never_given_up() -> None:
    seen = leaderless(silent(whole(), "master-0"))
    assert plan(cluster(strikes={"master-0": 30}), seen) == snapshot("""\
start-engine master-0
await-member master-0 after [start-engine master-0]\
""")


def test_one_of_three_masters_may_be_given_up() -> None:
    seen = silent(whole(3, 0), "master-1")
    assert plan(cluster(3, 0, strikes={"master-1": 3}), seen) == snapshot("delete-node master-1")


def test_an_engine_that_hangs_is_awaited_and_then_restarted() -> None:
    hung = {"worker-0": EngineSeen(answers=True, trouble="did not answer within 4 s")}
    seen = dataclasses.replace(whole(), engines={**whole().engines, **hung})
    assert plan(cluster(), seen) == snapshot("await-member worker-0")
    assert plan(cluster(strikes={"worker-0": 3}), seen) == snapshot("""\
start-engine worker-0 restart=yes
await-member worker-0 after [start-engine worker-0]\
""")
    late = cluster(strikes={"worker-0": 9})
    assert "restart=yes" in plan(late, seen), "whenever it was missed"
    tried = {"worker-0": 3}
    assert plan(cluster(strikes={"worker-0": 4}, restarted=tried), seen) == "await-member worker-0"
    assert plan(cluster(strikes={"worker-0": 5}, restarted=tried), seen) == "delete-node worker-0"


def test_after_a_power_cut_everything_starts_as_it_was() -> None:
    seen = leaderless(stopped(whole(), "master-0", "worker-0", "worker-1"))
    assert plan(cluster(), seen) == snapshot("""\
ensure-node master-0
ensure-node worker-0
ensure-node worker-1
start-engine master-0 after [ensure-node master-0]
start-engine worker-0 after [ensure-node worker-0]
start-engine worker-1 after [ensure-node worker-1]
await-member master-0 after [start-engine master-0]
await-member worker-0 after [await-member master-0, start-engine worker-0]
await-member worker-1 after [await-member master-0, start-engine worker-1]\
""")


def test_a_swarm_lost_with_its_only_manager_is_made_anew() -> None:
    assert plan(cluster(1, 1), leaderless(without(whole(1, 1), "master-0"))) == snapshot("""\
ensure-node master-0
start-engine master-0 after [ensure-node master-0]
init-swarm master-0 after [start-engine master-0]
label-node master-0 after [init-swarm master-0]
await-member master-0 after [init-swarm master-0]
leave worker-0
join worker-0 after [init-swarm master-0, leave worker-0]
label-node worker-0 after [join worker-0]\
""")


def test_a_lost_swarm_is_left_by_nodes_that_are_off_as_well() -> None:
    seen = leaderless(without(stopped(whole(1, 1), "worker-0"), "master-0"))
    assert plan(cluster(1, 1), seen) == snapshot("""\
ensure-node master-0
ensure-node worker-0
start-engine master-0 after [ensure-node master-0]
start-engine worker-0 after [ensure-node worker-0]
init-swarm master-0 after [start-engine master-0]
label-node master-0 after [init-swarm master-0]
await-member master-0 after [init-swarm master-0]
leave worker-0 after [start-engine worker-0]
join worker-0 after [init-swarm master-0, leave worker-0]
label-node worker-0 after [join worker-0]\
""")


def test_one_lost_manager_of_three_is_replaced() -> None:
    assert plan(cluster(3, 0), without(whole(3, 0), "master-1")) == snapshot("""\
ensure-node master-1
start-engine master-1 after [ensure-node master-1]
remove-member master1 host=web-master-1
join master-1 after [remove-member master1, start-engine master-1]
label-node master-1 after [join master-1]\
""")


def test_two_lost_managers_of_three_leave_one_that_goes_on() -> None:
    assert plan(cluster(3, 0), without(whole(3, 0), "master-1", "master-2")) == snapshot("""\
ensure-node master-1
ensure-node master-2
start-engine master-1 after [ensure-node master-1]
start-engine master-2 after [ensure-node master-2]
force-new-cluster master-0
remove-member master1 host=web-master-1 after [force-new-cluster master-0]
remove-member master2 host=web-master-2 after [force-new-cluster master-0, remove-member master1]
join master-1 after [remove-member master1, remove-member master2, start-engine master-1]
label-node master-1 after [join master-1]
join master-2 after [join master-1, remove-member master2, start-engine master-2]
label-node master-2 after [join master-2]\
""")


def test_the_last_of_three_managers_goes_on_though_nobody_can_list_them() -> None:
    seen = leaderless(without(whole(3, 0), "master-1", "master-2"))
    assert plan(cluster(3, 0), seen) == snapshot("""\
ensure-node master-1
ensure-node master-2
start-engine master-1 after [ensure-node master-1]
start-engine master-2 after [ensure-node master-2]
force-new-cluster master-0
join master-1 after [force-new-cluster master-0, start-engine master-1]
label-node master-1 after [join master-1]
join master-2 after [force-new-cluster master-0, join master-1, start-engine master-2]
label-node master-2 after [join master-2]\
""")


def test_a_majority_that_may_come_back_is_waited_for() -> None:
    seen = leaderless(stopped(whole(3, 0), "master-1", "master-2"))
    assert plan(cluster(3, 0, attempts=30), seen) == snapshot("""\
ensure-node master-1
ensure-node master-2
start-engine master-1 after [ensure-node master-1]
start-engine master-2 after [ensure-node master-2]
await-member master-1 after [start-engine master-1]
await-member master-2 after [start-engine master-2]\
""")


def test_a_majority_that_elects_its_leader_is_waited_for() -> None:
    seen = leaderless(without(whole(3, 0), "master-2"))
    assert "force-new-cluster" not in plan(cluster(3, 0, attempts=30), seen)
    assert "init-swarm" not in plan(cluster(3, 0, attempts=30), seen)


def test_a_master_that_never_got_in_is_no_majority() -> None:
    """The second master was lost while the third was being replaced: nobody let it in."""
    broken = leaderless(with_engine(whole(3, 0), "master-1", "error", node_id=""))
    broken = with_engine(broken, "master-2", "inactive", node_id="")
    joins = dataclasses.replace(broken.engines["master-1"], joins=True)
    seen = dataclasses.replace(broken, engines={**broken.engines, "master-1": joins})
    assert plan(cluster(3, 0, attempts=2), seen) == snapshot("""\
await-member master-0
join master-2 after [await-member master-0]
label-node master-2 after [join master-2]\
""")
    assert plan(cluster(3, 0, attempts=3), seen) == snapshot("""\
leave master-1
force-new-cluster master-0 after [leave master-1]
join master-2 after [force-new-cluster master-0]
label-node master-2 after [join master-2]\
""")
    assert "force-new-cluster" not in plan(cluster(3, 0, attempts=30), broken), "it has a vote"


def test_a_manager_without_a_leader_waits_and_then_goes_on_alone() -> None:
    """A worker that its tenant promoted was the other half of the majority."""
    seen = leaderless(whole(1, 0))
    assert plan(cluster(1, 0), seen) == snapshot("await-member master-0")
    assert plan(cluster(1, 0, attempts=3), seen) == snapshot("force-new-cluster master-0")


@pytest.mark.parametrize("attempts", [0, 30])
def test_a_locked_swarm_is_its_tenant_s_to_open(attempts: int) -> None:
    seen = leaderless(with_engine(whole(1, 0), "master-0", "locked"))
    assert plan(cluster(1, 0, attempts=attempts), seen) == "await-member master-0"


def test_a_member_of_another_swarm_leaves_it() -> None:
    seen = with_engine(whole(1, 1), "worker-0", "active", node_id="elsewhere")
    assert plan(cluster(1, 1), seen) == snapshot("""\
remove-member worker0 host=web-worker-0
leave worker-0
join worker-0 after [leave worker-0, remove-member worker0]
label-node worker-0 after [join worker-0]\
""")


def test_a_worker_that_does_not_get_in_begins_again() -> None:
    seen = with_engine(whole(1, 1), "worker-0", "pending")
    assert plan(cluster(1, 1), seen) == snapshot("await-member worker-0")
    assert plan(cluster(1, 1, strikes={"worker-0": 3}), seen) == snapshot("""\
leave worker-0
join worker-0 after [leave worker-0]
label-node worker-0 after [join worker-0]\
""")


def test_a_master_that_was_demoted_is_promoted() -> None:
    demoted = member("master-2", role="worker", reachability="")
    assert plan(cluster(3, 0), with_members(whole(3, 0), demoted)) == snapshot(
        "promote master-2 id=master2"
    )


def test_what_a_tenant_chose_is_left_alone() -> None:
    seen = with_members(
        whole(),
        member("worker-0", availability="drain"),
        member("worker-1", role="manager", reachability="reachable"),
        member("worker-9", id="foreign1", hostname="laptop", state="down"),
        member("master-0", labels={**member("master-0").labels, "disk": "ssd"}),
    )
    assert plan(cluster(), seen) == ""


def test_labels_that_are_missing_are_given() -> None:
    seen = with_members(whole(1, 1), member("worker-0", labels={"disk": "ssd"}))
    assert as_text(reconcile(cluster(1, 1), seen)) == snapshot(
        "label-node worker-0 moorage.group=default-worker moorage.role=worker"
    )


def test_scaling_up_and_down() -> None:
    assert plan(cluster(1, 2), whole(1, 1)) == snapshot("""\
ensure-node worker-1
start-engine worker-1 after [ensure-node worker-1]
join worker-1 after [start-engine worker-1]
label-node worker-1 after [join worker-1]\
""")
    assert plan(cluster(1, 0), whole(1, 2)) == snapshot("""\
drain worker-0 id=worker0
leave worker-0 after [drain worker-0]
remove-member worker0 host=web-worker-0 after [leave worker-0]
delete-node worker-0 after [remove-member worker0]
drain worker-1 id=worker1
leave worker-1 after [drain worker-1]
remove-member worker1 host=web-worker-1 after [leave worker-1]
delete-node worker-1 after [remove-member worker1]\
""")


def test_a_surplus_node_that_is_off_is_not_drained() -> None:
    assert plan(cluster(1, 0), stopped(whole(1, 1), "worker-0")) == snapshot("""\
remove-member worker0 host=web-worker-0
delete-node worker-0 after [remove-member worker0]\
""")


def test_a_surplus_node_that_was_promoted_is_demoted_first() -> None:
    promoted = member("worker-0", role="manager", reachability="reachable")
    assert plan(cluster(1, 0), with_members(whole(1, 1), promoted)) == snapshot("""\
demote worker-0 id=worker0
drain worker-0 id=worker0 after [demote worker-0]
leave worker-0 after [drain worker-0]
remove-member worker0 host=web-worker-0 after [leave worker-0]
delete-node worker-0 after [remove-member worker0]\
""")


def test_a_surplus_node_goes_also_where_the_swarm_does_not_answer() -> None:
    seen = leaderless(silent(whole(1, 1), "master-0"))
    assert "delete-node worker-0" in plan(cluster(1, 0), seen).splitlines()
