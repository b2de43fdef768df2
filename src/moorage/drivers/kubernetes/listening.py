"""Hearing at an API server that something may have happened to a node."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping

from moorage.clients.kubernetes import ApiSilent, Way
from moorage.model.cluster import ClusterSpec
from moorage.model.node import NodeState, ObservedNode, Role


async def listen(
    way: Way, cluster: ClusterSpec, nodes: Mapping[str, ObservedNode]
) -> AsyncGenerator[None]:
    """`Hears.changes`, by the first master whose API server lets itself be watched.

    Raises ApiSilent where none does.
    """
    events = await _open(way, cluster, nodes)
    del cluster  # it has the key of the CA, which must not be kept for as long as this lasts
    async with contextlib.aclosing(events):
        async for _ in events:
            yield


async def _open(
    way: Way, cluster: ClusterSpec, nodes: Mapping[str, ObservedNode]
) -> AsyncGenerator[None]:
    trouble = ApiSilent("no master of the cluster runs")
    for name in cluster.of(Role.MASTER):
        node = nodes.get(name)
        if node is None or node.state is not NodeState.RUNNING:
            continue
        try:
            server = way.api(cluster.uuid, cluster.authority, name, node.address)
            await server.ready()
        except ApiSilent as silence:
            trouble = silence
        else:
            return server.node_events()
    raise trouble
