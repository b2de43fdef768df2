"""What the nodes of a cluster, and their hosts, are called."""

from __future__ import annotations

from moorage.clients.docker import PORT
from moorage.drivers.hostnames import hostname
from moorage.model.cluster import ClusterSpec, GroupSpec
from moorage.model.node import NodeSpec, Role

DRAINED = "moorage.drained"
"""On a member that Moorage keeps free of tasks while its node is renewed: what its
availability was, and is to be again."""
CREDENTIALS = "moorage.credentials"
"""On the swarm itself: how often Moorage has exchanged the tokens that members join with."""
OURS = "moorage.labels"
"""On a member: the names of the labels that it has from its node group, if there are any."""


def node_specs(cluster: ClusterSpec) -> list[NodeSpec]:
    """The nodes that the cluster wants, group by group, the masters first."""
    return [
        NodeSpec(
            owner=cluster.uuid,
            name=name,
            role=group.role,
            flavor=group.flavor,
            hostname=hostname(cluster.name, name),
            expose=PORT if group.role is Role.MASTER else None,
            labels=labels(group),
            image=group.image,
            revision=group.revision,
        )
        for group in sorted(cluster.groups, key=lambda group: group.role is not Role.MASTER)
        for name in group.nodes
    ]


def labels(group: GroupSpec) -> dict[str, str]:
    """The labels of a node in its swarm, to place services by.

    Swarm has no taints. They are labels too, `moorage.taint.<key>.<effect>` with the value
    (of a taint without one: `true`), for a service's constraints to keep away from: a key
    may have several effects, and each is a label.
    """
    given = dict(group.labels)
    given |= {f"moorage.taint.{t.key}.{t.effect}": t.value or "true" for t in group.taints}
    ours = {OURS: " ".join(sorted(given))} if given else {}
    return {**given, "moorage.role": str(group.role), "moorage.group": group.name, **ours}
