"""When a delete by force gives up, and what is then noted down."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from moorage.model.cluster import Cluster
from moorage.model.node import ObservedNode
from moorage.model.orphan import Abandoned, LeftNode, wanted_nodes

TRIES = 3
"""A provider that fails so often in a row is not waited for any longer."""


def gives_up(cluster: Cluster) -> bool:
    """Whether a turn of a delete that did not end it is to be the last one."""
    return cluster.forced_by is not None and cluster.attempts + 1 >= TRIES


def abandoned(
    cluster: Cluster,
    seen: Mapping[str, ObservedNode] | None,
    traces: Sequence[str],
    reason: str,
    now: datetime.datetime,
) -> Abandoned:
    """What may remain: the nodes that were `seen` last; without a look, all that were wanted."""
    if seen is None:
        nodes = wanted_nodes(cluster)
    else:
        nodes = tuple(LeftNode(n.name, n.address, n.state.value) for n in seen.values())
    return Abandoned.of(cluster, nodes, reason, now, traces=traces)
