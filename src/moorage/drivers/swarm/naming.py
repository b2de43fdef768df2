"""What the nodes of a cluster, and their hosts, are called."""

from __future__ import annotations

import re

from moorage.clients.docker import PORT
from moorage.model.cluster import ClusterSpec
from moorage.model.node import NodeSpec, Role

LABEL_CHARACTERS = 63
"""The longest DNS label."""
GROUPS = {Role.MASTER: "default-master", Role.WORKER: "default-worker"}
"""The node groups that every cluster has, by the container-infra API's own names."""


def node_specs(cluster: ClusterSpec) -> list[NodeSpec]:
    """The nodes that the cluster wants, masters first, each kind by its number."""
    wanted = [(Role.MASTER, i) for i in range(cluster.masters)]
    wanted += [(Role.WORKER, i) for i in range(cluster.workers)]
    return [
        NodeSpec(
            owner=cluster.uuid,
            name=f"{role}-{i}",
            role=role,
            flavor=cluster.master_flavor if role is Role.MASTER else cluster.flavor,
            hostname=hostname(cluster.name, f"{role}-{i}"),
            expose=PORT if role is Role.MASTER else None,
            labels=labels(role),
        )
        for role, i in wanted
    ]


def labels(role: Role) -> dict[str, str]:
    """The labels of a node in its swarm, to place services by."""
    return {"moorage.role": str(role), "moorage.group": GROUPS[role]}


def hostname(cluster: str, node: str) -> str:
    """A DNS label from both names, the node's whole: `Web Shop`, `worker-0`: web-shop-worker-0."""
    safe = re.sub(r"[^a-z0-9]+", "-", cluster.lower())
    safe = safe[: LABEL_CHARACTERS - 1 - len(node)].strip("-")
    return f"{safe or 'cluster'}-{node}"


def node_of(cluster: str, host: str) -> str | None:
    """The node whose host is called so, if it is one of this cluster's."""
    found = re.search(r"-((?:master|worker)-\d{1,5})$", host)
    return found[1] if found and hostname(cluster, found[1]) == host else None
