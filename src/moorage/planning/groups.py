"""What a turn means for each node group of its cluster. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from moorage.model.cluster import Cluster
from moorage.model.node import ObservedNode
from moorage.model.nodegroup import NodeGroup
from moorage.model.plan import Step
from moorage.model.status import ClusterStatus
from moorage.planning.status import Verdict


def settled_groups(
    cluster: Cluster,
    verdict: Verdict,
    *,
    steps: Sequence[Step],
    nodes: Mapping[str, ObservedNode],
    old: Sequence[str] = (),
) -> tuple[NodeGroup, ...]:
    """The groups with their nodes' addresses and their statuses.

    A group is as wanted when the turn's plan (`steps`) had nothing to do with its nodes and
    none of them is `old`; it fails with its cluster. A group that was to go is left out
    once no node of its is there.
    """
    return tuple(_groups(cluster, verdict, steps, nodes, old))


def _groups(
    cluster: Cluster,
    verdict: Verdict,
    steps: Sequence[Step],
    nodes: Mapping[str, ObservedNode],
    old: Sequence[str],
) -> Iterator[NodeGroup]:
    busy = {step.node for step in steps} | set(old)
    for group in cluster.groups:
        there = {name for name in nodes if name.rpartition("-")[0] == group.prefix}
        if group.status.deleting:
            if there:
                yield _with_addresses(group, nodes)
            continue
        status, reason, former = group.status, group.status_reason, group.former_uuid
        held = group.held
        if not status.complete:
            if not busy & (there | set(group.nodes)):
                status, reason = ClusterStatus(f"{status.verb}_COMPLETE"), None
                former, held = None, False
            elif verdict.status.failed:
                status, reason = ClusterStatus(f"{status.verb}_FAILED"), verdict.status_reason
                held = held or (not verdict.back and bool(set(group.nodes) & set(old)))
        removed = tuple(n for n in group.removed if f"{group.prefix}-{n}" in there)
        yield replace(
            _with_addresses(group, nodes),
            status=status,
            status_reason=reason,
            former_uuid=former,
            held=held,
            removed=removed,
        )


def gone_back(cluster: Cluster, now: datetime.datetime) -> Cluster:
    """The cluster with what was wanted before wanted again, and its time anew.

    What was to go even then goes, if it is not gone by now.
    """
    before = cluster.fallback
    if before is None:
        raise ValueError(f"cluster {cluster.uuid} has nothing to go back to")
    status = ClusterStatus.ROLLBACK_IN_PROGRESS
    return replace(
        cluster,
        groups=tuple(
            group if group.status.deleting else replace(group, status=status) for group in before
        ),
        fallback=None,
        deadline=now + datetime.timedelta(minutes=cluster.create_timeout),
    )


def _with_addresses(group: NodeGroup, nodes: Mapping[str, ObservedNode]) -> NodeGroup:
    addresses = {
        name: address
        for name in group.nodes
        if name in nodes and (address := nodes[name].address) is not None
    }
    return replace(group, addresses=addresses)
