"""The demo's accident: a worker loses power and disk at once, and nobody tells Moorage."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from moorage.cli.failure import Code, Failure

if TYPE_CHECKING:
    from moorage.model.node import NodeRef
    from moorage.settings import Settings


def choose(settings: Settings, cluster: str) -> NodeRef:
    """The last worker of the cluster (a uuid), as the real things' marks tell."""
    from moorage import app
    from moorage.model.node import Role

    nodes = asyncio.run(app.local_provider(settings).observe(cluster))
    workers = [node.ref for node in nodes if node.role is Role.WORKER]
    if not workers:
        raise Failure(f"no worker of cluster {cluster} is on this machine", code=Code.NOT_FOUND)
    return max(workers, key=lambda ref: [int(digits) for digits in re.findall(r"\d+", ref.name)])


def strike(settings: Settings, victim: NodeRef) -> None:
    """Destroy it, processes and disk, behind Moorage's back."""
    from moorage import app

    asyncio.run(app.lose_node(settings, victim))
