"""Hearing at a manager that something may have happened to a member."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping

from moorage.clients.docker import EnginePool, EngineSilent
from moorage.clients.docker_events import Ear
from moorage.model.cluster import ClusterSpec
from moorage.model.node import NodeState, ObservedNode, Role

NODE_EVENTS = {"type": ["node"]}
"""https://docs.docker.com/engine/api/v1.41/#tag/System/operation/SystemEvents"""


async def listen(
    pool: EnginePool, cluster: ClusterSpec, nodes: Mapping[str, ObservedNode]
) -> AsyncGenerator[None]:
    """`Hears.changes`, by the first master whose engine lets itself be heard.

    Every manager tells of all members: their coming and going, and their states. Of its own
    trouble it tells by falling silent, or by ending the stream.
    """
    ear = await _open(pool, cluster, nodes)
    del cluster  # it has the key of the CA, which must not be kept for as long as this lasts
    async with contextlib.aclosing(ear.changes()) as changes:
        async for _ in changes:
            yield


async def _open(pool: EnginePool, cluster: ClusterSpec, nodes: Mapping[str, ObservedNode]) -> Ear:
    trouble = EngineSilent("no master of the cluster runs")
    for name in cluster.of(Role.MASTER):
        node = nodes.get(name)
        if node is None or node.state is not NodeState.RUNNING:
            continue
        try:
            engine = pool.engine(cluster.uuid, cluster.authority, name, node.address)
            return await engine.listen(NODE_EVENTS)
        except EngineSilent as silence:
            trouble = silence
    raise trouble
