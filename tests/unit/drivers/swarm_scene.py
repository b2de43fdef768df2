"""Scenes for the swarm driver's pure parts: what was seen, in few words."""

from __future__ import annotations

import dataclasses
from typing import Any

from moorage.clients.docker_wire import EngineInfo, SwarmMember
from moorage.drivers.hostnames import hostname
from moorage.drivers.swarm.naming import labels, node_specs
from moorage.drivers.swarm.seen import EngineSeen, SwarmObserved
from moorage.model.cluster import ClusterSpec, GroupSpec
from moorage.model.node import NodeRef, NodeState, ObservedNode, Role
from moorage.model.ports import CaKeys
from moorage.trust import ClusterAuthority, new_ca
from tests import made

AUTHORITY = ClusterAuthority(CaKeys(new_ca("scene")))
NAME = "web"


def cluster(masters: int = 1, workers: int = 2, *more: GroupSpec, **fields: Any) -> ClusterSpec:
    return made.spec(AUTHORITY, masters, workers, *more, coe="swarm", **fields)


def role_of(name: str) -> Role:
    return Role.MASTER if name.startswith("master") else Role.WORKER


def group_of(name: str) -> str:
    """A node's group: `gpu-0` is of gpu."""
    prefix = name.rpartition("-")[0]
    return f"default-{prefix}" if prefix in {"master", "worker"} else prefix


def whole(masters: int = 1, workers: int = 2, *more: GroupSpec) -> SwarmObserved:
    """A cluster that is as it should be. The id of a member is its node's name without `-`."""
    names = [spec.name for spec in node_specs(cluster(masters, workers, *more))]
    return SwarmObserved(
        nodes={name: node(name) for name in names},
        engines={name: engine(name) for name in names},
        members=tuple(member(name) for name in names),
    )


def node(name: str, state: NodeState = NodeState.RUNNING, reason: str = "") -> ObservedNode:
    return ObservedNode(
        NodeRef("c", name), role_of(name), state, "10.128.0.2", None, reason, revision="r1"
    )


def engine(name: str, state: str = "active", **more: object) -> EngineSeen:
    default = {
        "node_id": name.replace("-", "") if state != "inactive" else "",
        "control": role_of(name) is Role.MASTER and state == "active",
        "swarm_labels": {} if role_of(name) is Role.MASTER and state == "active" else None,
    }
    info = EngineInfo.model_validate({"state": state, **default, **more})
    return EngineSeen(info, revision=AUTHORITY.revision)


def member(name: str, *, id: str | None = None, **more: object) -> SwarmMember:
    role = role_of(name)
    default = {
        "role": "manager" if role is Role.MASTER else "worker",
        "reachability": "reachable" if role is Role.MASTER else "",
        "labels": labels(made.spec_group(group_of(name), 1)),
        "availability": "active",
        "hostname": hostname(NAME, name),
        "state": "ready",
    }
    id = id or name.replace("-", "")
    return SwarmMember.model_validate({"id": id, **default, **more})


def without(seen: SwarmObserved, *names: str) -> SwarmObserved:
    """The nodes are gone; the swarm's managers list them still."""
    return dataclasses.replace(
        seen,
        nodes={name: node for name, node in seen.nodes.items() if name not in names},
        engines={name: engine for name, engine in seen.engines.items() if name not in names},
    )


def stopped(seen: SwarmObserved, *names: str) -> SwarmObserved:
    gone = without(seen, *names)
    off = {name: node(name, NodeState.STOPPED, "its first process is gone") for name in names}
    return dataclasses.replace(gone, nodes={**gone.nodes, **off})


def silent(seen: SwarmObserved, *names: str) -> SwarmObserved:
    off = {name: EngineSeen(answers=False, trouble=f"engine of {name} is off") for name in names}
    return dataclasses.replace(seen, engines={**seen.engines, **off})


def with_engine(seen: SwarmObserved, name: str, state: str, **more: object) -> SwarmObserved:
    return dataclasses.replace(
        seen,
        nodes={**seen.nodes, name: node(name)},
        engines={**seen.engines, name: engine(name, state, **more)},
    )


def with_members(seen: SwarmObserved, *members: SwarmMember) -> SwarmObserved:
    """These members replace those of the same id, or are added."""
    ids = {member.id for member in members}
    kept = tuple(member for member in seen.members or () if member.id not in ids)
    return dataclasses.replace(seen, members=(*kept, *members))


def leaderless(seen: SwarmObserved) -> SwarmObserved:
    return dataclasses.replace(seen, members=None, trouble="the swarm does not have a leader")
