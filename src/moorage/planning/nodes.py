"""The steps between the nodes that are wanted and the nodes that are there.

Every driver starts its plan with these and hangs its own steps after them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from moorage.model.node import NodeSpec, NodeState, ObservedNode
from moorage.model.plan import DELETE_NODE, ENSURE_NODE, Step

ENSURE_SECONDS = 60.0
DELETE_SECONDS = 60.0


def node_steps(
    wanted: Sequence[NodeSpec],
    seen: Mapping[str, ObservedNode],
    renewing: Collection[str] = (),
) -> list[Step]:
    """Make what is missing, start what is stopped, mend, remake what is broken, delete the surplus.

    In the order of `wanted`, the surplus last and by name. A node that runs gets no step,
    unless it can be mended, or is among `renewing`: then it is made anew on its disk. Two
    specs of one name are a bug of the driver: ValueError.
    """
    names = [spec.name for spec in wanted]
    if len(set(names)) != len(names):
        raise ValueError(f"node names are not unique: {names}")
    steps: list[Step] = []
    for name in names:
        node = seen.get(name)
        if node is None or node.state is NodeState.STOPPED or node.mendable or name in renewing:
            steps.append(ensure_node(name))
        elif node.state is NodeState.BROKEN:
            gone = delete_node(name)
            steps += [gone, ensure_node(name, after=frozenset({gone.key}))]
    steps += [delete_node(name) for name in sorted(seen.keys() - set(names))]
    return steps


def ensure_node(name: str, *, after: frozenset[str] = frozenset()) -> Step:
    """The step that makes the node, starts it again as it was, or renews it on its disk."""
    return Step(ENSURE_NODE, name, after=after, timeout=ENSURE_SECONDS)


def delete_node(name: str, *, after: frozenset[str] = frozenset()) -> Step:
    """The step that takes the node away with its disk."""
    return Step(DELETE_NODE, name, after=after, timeout=DELETE_SECONDS)
