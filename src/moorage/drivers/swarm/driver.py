"""SwarmDriver: `model.ports.ClusterDriver` for Docker Swarm."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import ClassVar

from moorage.clients.docker import EnginePool
from moorage.drivers.swarm.acts import Acts
from moorage.drivers.swarm.listening import listen
from moorage.drivers.swarm.naming import node_specs
from moorage.drivers.swarm.observation import look
from moorage.drivers.swarm.reconcile import reconcile
from moorage.drivers.swarm.seen import SwarmObserved
from moorage.model.cluster import ClusterSpec
from moorage.model.node import Least, NodeSpec, ObservedNode, Role
from moorage.model.plan import Step
from moorage.model.ports import Members

LEAST = Least(memory_mib=128, pids=64)
"""Of any node: twice what dockerd, containerd and HAProxy were seen to take without a container."""


class SwarmDriver:
    """Belongs to one event loop: it keeps connections to engines; `aclose` closes them."""

    coe: ClassVar[str] = "swarm"

    def __init__(self) -> None:
        self._pool = EnginePool()

    def least(self, role: Role, labels: Mapping[str, str]) -> Least:  # noqa: ARG002
        """Needs: managers and workers run the same programs."""
        return LEAST

    def nodes(self, cluster: ClusterSpec) -> list[NodeSpec]:
        return node_specs(cluster)

    async def observe(
        self, cluster: ClusterSpec, nodes: Mapping[str, ObservedNode], members: Members
    ) -> SwarmObserved:
        return await look(self._pool, cluster, nodes, members)

    def plan(self, cluster: ClusterSpec, seen: SwarmObserved) -> list[Step]:
        return reconcile(cluster, seen)

    async def perform(self, step: Step, cluster: ClusterSpec, members: Members) -> None:
        await Acts(self._pool, cluster, members).perform(step)

    def changes(
        self, cluster: ClusterSpec, nodes: Mapping[str, ObservedNode]
    ) -> AsyncGenerator[None]:
        return listen(self._pool, cluster, nodes)

    async def aclose(self) -> None:
        await self._pool.aclose()
