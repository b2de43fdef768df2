from __future__ import annotations

import pytest

from moorage.model.node import Flavor, NodeRef, NodeSpec, NodeState, ObservedNode, Role
from moorage.model.plan import Step, as_text
from moorage.planning.nodes import node_steps
from moorage.planning.order import ordered

FLAVOR = Flavor("tiny", vcpus=1, memory_mib=64, disk_gib=1, pids=100)


def spec(name: str) -> NodeSpec:
    return NodeSpec("o", name, Role.WORKER, FLAVOR, hostname=name)


def seen(**states: NodeState) -> dict[str, ObservedNode]:
    return {
        name: ObservedNode(NodeRef("o", name), Role.WORKER, state) for name, state in states.items()
    }


def test_every_state_of_a_node_has_its_steps() -> None:
    steps = node_steps(
        [spec(name) for name in ("missing", "stopped", "broken", "running")],
        seen(
            stopped=NodeState.STOPPED,
            broken=NodeState.BROKEN,
            running=NodeState.RUNNING,
            z_surplus=NodeState.RUNNING,
            a_surplus=NodeState.STOPPED,
        ),
    )
    assert as_text(steps) == (
        "ensure-node missing\n"
        "ensure-node stopped\n"
        "delete-node broken\n"
        "ensure-node broken after [delete-node broken]\n"
        "delete-node a_surplus\n"
        "delete-node z_surplus"
    )


def test_nodes_as_they_are_wanted_need_nothing() -> None:
    assert node_steps([spec("a")], seen(a=NodeState.RUNNING)) == []
    assert node_steps([], {}) == []


def test_two_nodes_of_one_name_are_a_bug() -> None:
    with pytest.raises(ValueError, match="not unique"):
        node_steps([spec("a"), spec("a")], {})


def test_steps_come_after_those_they_wait_for() -> None:
    graph = ordered(
        [Step("c", after=frozenset({"b"})), Step("b", after=frozenset({"a"})), Step("a")]
    )
    order: list[str] = []
    while graph.is_active():
        ready = graph.get_ready()
        order += ready
        graph.done(*ready)
    assert order == ["a", "b", "c"]


def test_a_key_that_is_not_in_the_plan_counts_as_done() -> None:
    assert ordered([Step("a", after=frozenset({"elsewhere"}))]).get_ready() == ("a",)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([Step("a", after=frozenset({"a"}))], "wait for each other"),
        (
            [Step("a", after=frozenset({"b"})), Step("b", after=frozenset({"a"}))],
            "wait for each other",
        ),
        ([Step("a", "n"), Step("a", "n")], "twice"),
    ],
)
def test_a_plan_without_an_order_is_a_bug(steps: list[Step], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ordered(steps)
