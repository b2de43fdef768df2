"""What the hosts of a cluster's nodes are called, whatever its COE."""

from __future__ import annotations

import re

NODE = re.compile(r"[a-z][a-z0-9-]*-[0-9]{1,5}")
LABEL_CHARACTERS = 63
"""The longest DNS label."""


def hostname(cluster: str, node: str) -> str:
    """A DNS label from both names, the node's whole: `Web Shop`, `worker-0`: web-shop-worker-0."""
    safe = re.sub(r"[^a-z0-9]+", "-", cluster.lower())
    safe = safe[: LABEL_CHARACTERS - 1 - len(node)].strip("-")
    return f"{safe or 'cluster'}-{node}"


def node_of(cluster: str, host: str) -> str | None:
    """The node whose host is called so, if it is one of this cluster's."""
    parts = host.split("-")
    for place in range(len(parts) - 2, 0, -1):
        name = "-".join(parts[place:])
        if NODE.fullmatch(name) and hostname(cluster, name) == host:
            return name
    return None
