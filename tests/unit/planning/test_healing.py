"""How far a cluster heals itself: decisions, as text."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from inline_snapshot import snapshot

from moorage.model.cluster import Cluster, Health, HealthStatus
from moorage.model.healing import Healing, Strikes
from moorage.model.node import NodeRef, NodeState, ObservedNode, Role
from moorage.model.plan import RESTART, Step, as_text
from moorage.model.ports import Observed
from moorage.planning.healing import WHOLESALE, Limits, admitted, counted_in, enabled, remembered
from moorage.planning.nodes import delete_node, ensure_node
from moorage.planning.outcomes import Outcome
from tests import made

NOW = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)
WANTED = ["master-0", *(f"worker-{i}" for i in range(5))]
LIMITS = Limits(window=60.0)


def ago(seconds: float) -> datetime.datetime:
    return NOW - datetime.timedelta(seconds=seconds)


def scene(**states: NodeState | None) -> Observed:
    """All nodes run, but those named; `worker_1=None` is not there."""
    nodes = {}
    for name in WANTED:
        state = states.get(name.replace("-", "_"), NodeState.RUNNING)
        if state is not None:
            role = Role.MASTER if name.startswith("master") else Role.WORKER
            nodes[name] = ObservedNode(NodeRef("o", name), role, state)
    return Observed(nodes, health=Health(HealthStatus.UNHEALTHY, {"x": "y"}))


def cluster(
    status: str = "CREATE_COMPLETE",
    *,
    replaced: tuple[datetime.datetime, ...] = (),
    strikes: dict[str, int] | None = None,
    **labels: str,
) -> Cluster:
    struck = {name: Strikes(count, NOW) for name, count in (strikes or {}).items()}
    return made.cluster(workers=5, status=status, labels=labels, healing=Healing(struck, replaced))


def decided(of: Cluster, steps: list[Step], seen: Observed) -> str:
    """What is done, then what is said."""
    done = admitted(of, steps, seen, WANTED, limits=LIMITS, now=NOW)
    again = [] if done.due_in is None else [f"again in {done.due_in:g} s"]
    return "\n".join([as_text(done.steps), *(f"{k}: {v}" for k, v in done.notes.items()), *again])


def joined(name: str) -> Step:
    return Step("join", name, after=frozenset({f"ensure-node {name}"}))


def replacing(*names: str) -> list[Step]:
    return [step for name in names for step in (ensure_node(name), joined(name))]


def test_a_lost_node_is_replaced() -> None:
    assert decided(cluster(), replacing("worker-1"), scene(worker_1=None)) == snapshot("""\
ensure-node worker-1
join worker-1 after [ensure-node worker-1]\
""")


def test_where_healing_is_off_nothing_is_done_and_the_reason_says_what_would_be() -> None:
    of = cluster(auto_healing_enabled="False")
    assert decided(of, replacing("worker-1"), scene(worker_1=None)) == snapshot("""\

healing: off (auto_healing_enabled is False); it would do: ensure-node, join\
""")
    assert decided(of, [], scene()) == "", "there is nothing to be said of a whole one"


def test_where_healing_is_off_what_guards_its_network_is_mended_all_the_same() -> None:
    """A cluster without its guards reaches what it must not: that is not its tenant's to want."""
    of, seen = cluster(auto_healing_enabled="False"), scene(worker_1=None)
    lost = replace(seen.nodes["worker-0"], reason="the packet filter lost it", mendable=True)
    seen = replace(seen, nodes={**seen.nodes, "worker-0": lost})
    steps = [ensure_node("worker-0"), joined("worker-0"), *replacing("worker-1")]
    assert decided(of, steps, seen) == snapshot("""\
ensure-node worker-0
healing: off (auto_healing_enabled is False); it would do: 2 join, ensure-node\
""")
    assert decided(of, [ensure_node("worker-0")], seen) == snapshot("ensure-node worker-0")
    drained = ensure_node("worker-0", after=frozenset({"drain worker-0"}))
    assert decided(of, [drained], seen) == snapshot("""\

healing: off (auto_healing_enabled is False); it would do: ensure-node\
""")


def test_what_somebody_asked_for_is_done_whatever_healing_may_do() -> None:
    of = cluster(
        "UPDATE_IN_PROGRESS", replaced=tuple(ago(1) for _ in range(9)), auto_healing_enabled="no"
    )
    assert "ensure-node worker-1" in decided(of, replacing("worker-1"), scene(worker_1=None))


@pytest.mark.parametrize(
    ("text", "yes"), [("true", True), ("", True), ("False", False), ("0", False)]
)
def test_the_label(text: str, yes: bool) -> None:
    assert enabled({"auto_healing_enabled": text}) is yes
    assert enabled({})


def test_so_many_in_a_window_and_then_it_is_on_hold_until_it_has_moved_on() -> None:
    seen = scene(worker_1=None, worker_2=None)
    steps = [*replacing("worker-1", "worker-2"), ensure_node("worker-3")]
    of = cluster(replaced=(ago(50), ago(20)))
    assert decided(of, steps, seen) == snapshot("""\
ensure-node worker-1
join worker-1 after [ensure-node worker-1]
ensure-node worker-3
healing: on hold until 2030-01-01 12:00:10 UTC: at most 3 are replaced in 1 min; next: worker-2
again in 10 s\
""")
    # Nobody has to do anything for it to go on.
    later = remembered(of.healing, seen, WANTED, LIMITS, NOW + datetime.timedelta(seconds=11))
    assert later.replaced == (ago(20),)


def test_a_large_cluster_may_replace_more() -> None:
    assert [Limits().most(nodes) for nodes in (1, 12, 40, 1000)] == [3, 3, 10, 250]


def test_most_nodes_gone_at_once_are_not_replaced_and_those_with_disks_are_started() -> None:
    gone = {f"worker_{i}": None for i in range(4)}
    seen = scene(master_0=NodeState.STOPPED, **gone)
    steps = [ensure_node("master-0"), *replacing(*(f"worker-{i}" for i in range(4)))]
    few = {f"worker-{i}": WHOLESALE - 1 for i in range(4)}
    assert decided(cluster(strikes=few), steps, seen) == snapshot("""\
ensure-node master-0
healing: 4 of 6 nodes seem gone at once: none is replaced before that was seen 8 times
again in 5 s\
""")
    many = {f"worker-{i}": WHOLESALE for i in range(4)}
    assert decided(cluster(strikes=many), steps, seen) == snapshot("""\
ensure-node master-0
ensure-node worker-0
join worker-0 after [ensure-node worker-0]
ensure-node worker-1
join worker-1 after [ensure-node worker-1]
ensure-node worker-2
join worker-2 after [ensure-node worker-2]
healing: on hold until 2030-01-01 12:01:00 UTC: at most 3 are replaced in 1 min; next: worker-3
again in 60 s\
""")


def test_half_of_the_nodes_is_no_majority_and_one_is_none_either() -> None:
    seen = scene(worker_0=None, worker_1=None, worker_2=None)
    steps = replacing("worker-0", "worker-1", "worker-2")
    assert "seem gone" not in decided(cluster(), steps, seen)


def test_what_waits_for_a_node_that_is_held_waits_as_well() -> None:
    seen = scene(worker_1=NodeState.BROKEN)
    gone = delete_node("worker-1")
    steps = [
        gone,
        ensure_node("worker-1", after=frozenset({gone.key})),
        Step("remove-member", "abc", after=frozenset({"ensure-node worker-1"})),
        Step("label-node", "worker-2"),
    ]
    of = cluster(replaced=(ago(10),) * 3)
    assert decided(of, steps, seen) == snapshot("""\
label-node worker-2
healing: on hold until 2030-01-01 12:00:50 UTC: at most 3 are replaced in 1 min; next: worker-1
again in 50 s\
""")


def test_strikes_are_counted_by_time_and_forgotten_with_the_trouble() -> None:
    seen = scene(worker_1=None)
    first = remembered(Healing(), seen, WANTED, LIMITS, NOW)
    assert first.strikes == {"worker-1": Strikes(1, NOW)}
    hasty = remembered(first, seen, WANTED, LIMITS, NOW + datetime.timedelta(seconds=4))
    assert hasty == first, "a storm of hints is no evidence"
    later = NOW + datetime.timedelta(seconds=5)
    assert remembered(first, seen, WANTED, LIMITS, later).strikes == {"worker-1": Strikes(2, later)}
    assert remembered(first, scene(), WANTED, LIMITS, later).strikes == {}


def test_a_clock_that_was_set_back_holds_no_healing_up() -> None:
    ahead, now = NOW + datetime.timedelta(hours=2), NOW + datetime.timedelta(seconds=5)
    seen = scene(worker_1=None)
    before = Healing({"worker-1": Strikes(2, ahead)}, replaced=(ahead,))
    after = remembered(before, seen, WANTED, LIMITS, NOW)
    assert after == Healing({"worker-1": Strikes(2, NOW)}, replaced=(NOW,))
    assert remembered(after, seen, WANTED, LIMITS, now).strikes == {"worker-1": Strikes(3, now)}


def test_a_stopped_node_and_one_that_is_not_wanted_are_no_evidence() -> None:
    seen = Observed(scene(worker_1=NodeState.STOPPED).nodes, failing=frozenset({"gpu-0"}))
    assert remembered(Healing(), seen, WANTED, LIMITS, NOW).strikes == {}


def test_replacements_are_counted_and_starts_are_not() -> None:
    seen = scene(worker_1=None, worker_2=NodeState.STOPPED)
    done = [Outcome(ensure_node("worker-1"), 1.0), Outcome(ensure_node("worker-2"), 1.0)]
    undone = Outcome(ensure_node("worker-1"), skipped=True)
    assert counted_in(cluster(), done, seen, WANTED, NOW).replaced == (NOW,)
    assert counted_in(cluster(), [undone], seen, WANTED, NOW).replaced == ()
    assert counted_in(cluster("CREATE_IN_PROGRESS"), done, seen, WANTED, NOW).replaced == ()


def test_what_failed_to_change_makes_what_lacks_and_gives_up_disks_by_the_rules_only() -> None:
    """It may stay so for weeks, with its tenant's services on it."""
    lost = {f"worker_{i}": None for i in range(2)}
    steps = [*replacing("worker-0", "worker-1"), delete_node("worker-2"), delete_node("surplus")]
    failing = replace(scene(**lost), failing=frozenset({"worker-2", "worker-3"}))
    assert decided(cluster("UPDATE_FAILED"), steps, failing) == snapshot("""ensure-node worker-0
join worker-0 after [ensure-node worker-0]
ensure-node worker-1
join worker-1 after [ensure-node worker-1]
delete-node surplus
healing: 4 of 6 nodes seem gone at once: none is replaced before that was seen 8 times
again in 5 s\
""")
    full = cluster("UPDATE_IN_PROGRESS", replaced=(ago(10),) * 3)
    assert "delete-node worker-2" not in decided(full, steps, scene(**lost))
    assert "next: worker-2" in decided(full, steps, scene(**lost))
    off = cluster("UPDATE_FAILED", auto_healing_enabled="false")
    assert decided(off, steps, scene(**lost)) == snapshot("""ensure-node worker-0
join worker-0 after [ensure-node worker-0]
ensure-node worker-1
join worker-1 after [ensure-node worker-1]
delete-node surplus
healing: off (auto_healing_enabled is false); it would do: delete-node\
""")
    gone = [Outcome(delete_node("worker-2"), 1.0), Outcome(delete_node("surplus"), 1.0)]
    assert counted_in(cluster("UPDATE_FAILED"), gone, scene(), WANTED, NOW).replaced == (NOW,)


def test_a_create_has_nothing_to_lose() -> None:
    making = cluster("CREATE_IN_PROGRESS", auto_healing_enabled="false")
    assert decided(making, [delete_node("worker-2")], scene()) == "delete-node worker-2"


def test_a_restart_is_remembered_once_it_is_done_and_a_new_node_begins_anew() -> None:
    of = cluster(strikes={"worker-1": 4, "worker-2": 9})
    restart = Step("start-engine", "worker-1", detail={RESTART: "yes"})
    done = [Outcome(restart, 1.0), Outcome(ensure_node("worker-2"), 1.0)]
    after = counted_in(of, done, scene(worker_2=None), WANTED, NOW)
    assert after.strikes == {"worker-1": Strikes(4, NOW, restarted=4)}
    assert after.restarted == {"worker-1": 4}
    undone = Outcome(restart, skipped=True)
    assert counted_in(of, [undone], scene(), WANTED, NOW).restarted == {}
    seen = replace(scene(), failing=frozenset({"worker-1"}))
    later = NOW + datetime.timedelta(seconds=6)
    assert remembered(after, seen, WANTED, LIMITS, later).strikes == {
        "worker-1": Strikes(5, later, restarted=4)
    }
