"""Looking at a cluster: every engine at once, then the swarm through one manager."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from moorage.clients.docker import Engine, EnginePool
from moorage.clients.docker_wire import SwarmMember
from moorage.drivers.swarm import engine as script
from moorage.drivers.swarm.health import health
from moorage.drivers.swarm.naming import node_specs
from moorage.drivers.swarm.seen import EngineSeen, SwarmObserved
from moorage.model.cluster import ClusterSpec
from moorage.model.errors import RetryLater
from moorage.model.node import ObservedNode, Role
from moorage.model.ports import Members

PING_SECONDS = 2.0
INFO_SECONDS = 4.0


async def look(
    pool: EnginePool, cluster: ClusterSpec, nodes: Mapping[str, ObservedNode], members: Members
) -> SwarmObserved:
    """What there is, and its health. A silent engine is a finding; nothing is raised for it."""
    names = sorted(members)
    answers = await asyncio.gather(
        *(_look_at(pool, cluster, name, members[name].node.address) for name in names)
    )
    seen = SwarmObserved(nodes=nodes, engines=dict(zip(names, answers, strict=True)))
    found, trouble = await _members(pool, cluster, seen, members)
    if found is None:
        seen = replace(seen, engines=await _joining(seen.engines, members))
    version = next((e.info.version for e in answers if e.info and e.info.version), None)
    seen = replace(
        seen,
        members=found,
        trouble=trouble,
        api_address=_api_address(cluster, nodes),
        coe_version=version,
        container_version=version,
    )
    return replace(seen, health=health(cluster, seen), failing=seen.useless(cluster.name))


async def _look_at(
    pool: EnginePool, cluster: ClusterSpec, name: str, address: str | None
) -> EngineSeen:
    try:
        engine = pool.engine(cluster.uuid, cluster.authority, name, address)
        revision = await engine.ping(timeout=PING_SECONDS)
    except RetryLater as silence:
        return EngineSeen(answers=False, trouble=silence.reason)
    return await _ask(engine, revision)


async def _ask(engine: Engine, revision: str) -> EngineSeen:
    try:
        return EngineSeen(await engine.info(timeout=INFO_SECONDS), revision=revision)
    except RetryLater as silence:
        return EngineSeen(answers=True, trouble=silence.reason, revision=revision)


async def _joining(engines: Mapping[str, EngineSeen], members: Members) -> dict[str, EngineSeen]:
    """With what those that have no id of their own noted for themselves, which only the nodes'
    disks tell: one whose swarm broke down looks just so, and has a vote."""

    async def noted(name: str, engine: EngineSeen) -> EngineSeen:
        info = engine.info
        if info is None or info.node_id or info.state not in {"pending", "error"}:
            return engine
        argv = ["/bin/sh", "-c", script.JOINS]
        try:
            done = await members[name].host.run(argv, timeout=INFO_SECONDS)
        except RetryLater:
            return engine
        return replace(engine, joins=done.returncode == 0)

    told = await asyncio.gather(*(noted(name, engine) for name, engine in engines.items()))
    return dict(zip(engines, told, strict=True))


async def _members(
    pool: EnginePool, cluster: ClusterSpec, seen: SwarmObserved, members: Members
) -> tuple[tuple[SwarmMember, ...] | None, str]:
    """The swarm's list, from the first manager that has it; else None, and why."""
    trouble = ""
    for name in seen.managers():
        engine = pool.engine(cluster.uuid, cluster.authority, name, members[name].node.address)
        try:
            return tuple(await engine.members()), ""
        except RetryLater as refusal:
            trouble = refusal.reason
    return None, trouble or "no manager of the swarm answers"


def _api_address(cluster: ClusterSpec, nodes: Mapping[str, ObservedNode]) -> str | None:
    """The first master's way in from outside."""
    for spec in node_specs(cluster):
        node = nodes.get(spec.name)
        if spec.role is Role.MASTER and node and node.endpoint:
            return f"tcp://{node.endpoint}"
    return None
