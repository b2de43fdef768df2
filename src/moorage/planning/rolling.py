"""Renewing nodes, a batch at a time: which ones may be away now.

A node is *old* when it was made by another revision of its group than the wanted one. The
rules:

- Nothing else comes first but an old node that is in trouble: where everything else is as
  it is wanted (the plan without renewals is empty), the next batch begins. So each batch
  is back, and seen to be well, before the next one; a batch that fails stops the rest.
- An old node that is not well is renewed first: this is also how one goes back from a
  revision whose nodes don't come up. It counts as away beside those that are away already,
  and a master isn't taken while another one is unwell, since what looks unwell may hold the
  quorum still. After PATIENCE turns that got nowhere it is what it looks like, and goes.
- Masters come first and one at a time, for a quorum's sake; then the other groups, in
  order, up to `batch_size` nodes together.
- A change that has failed is on hold: no node of its groups is renewed until somebody asks
  for the upgrade again (to go on), or for the former template (to go back). Whatever else
  is asked for meanwhile is done without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from moorage.model.cluster import ClusterSpec
from moorage.model.node import ObservedNode, Role
from moorage.model.plan import Step
from moorage.model.ports import AnyDriver, Observed

PATIENCE = 3
"""Turns in a row that got nowhere, after which a node that looks unwell is taken for it."""


@dataclass(frozen=True, slots=True)
class Rolled:
    """The plan of one turn, the cluster as it is told to whoever performs it, and what is old.

    `held`: those of the old nodes whose renewal is on hold.
    """

    cluster: ClusterSpec
    steps: list[Step]
    old: tuple[str, ...] = ()
    held: tuple[str, ...] = ()


def plan(driver: AnyDriver, cluster: ClusterSpec, seen: Any, *, batch_size: int) -> Rolled:
    """The driver's plan, with the nodes that are to be renewed in it. Pure."""
    found: Observed = seen
    old = outdated(cluster, found.nodes)
    on_hold = {name for group in cluster.groups if group.held for name in group.nodes}
    held = tuple(name for name in old if name in on_hold)
    free = tuple(name for name in old if name not in on_hold)
    if unwell := _unwell(cluster, free, found.health.reasons, batch_size):
        cluster = replace(cluster, renewing=frozenset(unwell))
    steps = driver.plan(cluster, seen)
    if not steps and free:
        cluster = replace(cluster, renewing=frozenset(_batch(cluster, free, batch_size)))
        steps = driver.plan(cluster, seen)
    return Rolled(cluster, steps, old, held)


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


def _unwell(
    cluster: ClusterSpec, old: tuple[str, ...], reasons: Mapping[str, str], size: int
) -> tuple[str, ...]:
    """The old nodes in trouble that may go now."""
    sick = tuple(name for name in old if name in reasons)
    if not sick:
        return ()
    patient = cluster.attempts >= PATIENCE
    masters = set(cluster.of(Role.MASTER))
    if sick[0] in masters:
        alone = not (reasons.keys() & masters) - {sick[0]}
        return sick[:1] if alone or patient else ()
    away = (reasons.keys() & set(cluster.of(Role.WORKER))) - set(sick)
    return sick[: size if patient else max(0, size - len(away))]


def _batch(cluster: ClusterSpec, old: tuple[str, ...], size: int) -> tuple[str, ...]:
    masters = set(cluster.of(Role.MASTER))
    return old[:1] if old[0] in masters else old[:size]
