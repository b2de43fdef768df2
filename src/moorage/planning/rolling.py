"""Renewing nodes, a batch at a time: which ones may be away now.

A node is *old* when it was made by another revision of its group than the wanted one. The
rules:

- Nothing else comes first but an old node that is in trouble: where everything else is as
  it is wanted (the plan without renewals is empty), the next batch begins. So each batch
  is back, and seen to be well, before the next one; a batch that fails stops the rest.
- An old node that is not well is renewed at once: it can't get worse, and this is also how
  one goes back from a revision whose nodes don't come up.
- Masters come first and one at a time, for a quorum's sake; then the other groups, in
  order, up to `batch_size` nodes together.
- A change that has failed is on hold: nothing is renewed until somebody asks for the
  upgrade again (to go on), or for the former template (to go back).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from moorage.model.cluster import ClusterSpec
from moorage.model.node import ObservedNode, Role
from moorage.model.plan import Step
from moorage.model.ports import AnyDriver, Observed


@dataclass(frozen=True, slots=True)
class Rolled:
    """The plan of one turn, the cluster as it is told to whoever performs it, and what is old.

    `held`: the old nodes that would be renewed if the change were not on hold.
    """

    cluster: ClusterSpec
    steps: list[Step]
    old: tuple[str, ...] = ()
    held: bool = False


def plan(
    driver: AnyDriver, cluster: ClusterSpec, seen: Any, *, batch_size: int, hold: bool
) -> Rolled:
    """The driver's plan, with the nodes that are to be renewed in it. Pure."""
    found: Observed = seen
    old = outdated(cluster, found.nodes)
    unwell = tuple(name for name in old if name in found.health.reasons)
    if unwell and not hold:
        cluster = replace(cluster, renewing=frozenset(_batch(cluster, unwell, batch_size)))
    steps = driver.plan(cluster, seen)
    if steps or not old or hold:
        return Rolled(cluster, steps, old, held=hold and bool(old))
    cluster = replace(cluster, renewing=frozenset(_batch(cluster, old, batch_size)))
    return Rolled(cluster, driver.plan(cluster, seen), old)


def outdated(cluster: ClusterSpec, nodes: Mapping[str, ObservedNode]) -> tuple[str, ...]:
    """The nodes of another revision than their group's, masters first, in order.

    One whose revision is not known (made before there were any) is not old.
    """
    groups = sorted(cluster.groups, key=lambda group: group.role is not Role.MASTER)
    return tuple(
        name
        for group in groups
        for name in group.nodes
        if name in nodes and nodes[name].revision not in {"", group.revision}
    )


def _batch(cluster: ClusterSpec, old: tuple[str, ...], size: int) -> tuple[str, ...]:
    masters = set(cluster.of(Role.MASTER))
    return old[:1] if old[0] in masters else old[:size]
