"""A node: one machine of a cluster, wherever it comes from."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Role(enum.StrEnum):
    """What a node is in its cluster, in the words of the container-infra API."""

    MASTER = "master"
    WORKER = "worker"


class NodeState(enum.StrEnum):
    """What a provider sees of a node, without asking what runs in it."""

    RUNNING = "running"
    STOPPED = "stopped"
    """Its disk is there and it can be started again as it was."""
    BROKEN = "broken"
    """Half made or half deleted: only `delete`, or `ensure` from the start, helps."""


@dataclass(frozen=True, slots=True)
class Flavor:
    """A size of node. `disk_gib` is what the node may be expected to use."""

    name: str
    vcpus: int
    memory_mib: int
    disk_gib: int
    pids: int


@dataclass(frozen=True, slots=True)
class Least:
    """What a node must have, or it is of no use."""

    memory_mib: int = 0
    pids: int = 0

    def fits(self, flavor: Flavor) -> bool:
        return flavor.memory_mib >= self.memory_mib and flavor.pids >= self.pids


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A node that is wanted.

    `owner` is the cluster's uuid; `name` (a DNS label such as `worker-0`) is unique
    within it, so that both together find the node again without a database.
    `expose` is a TCP port of the node that clients outside the cluster must reach.
    """

    owner: str
    name: str
    role: Role
    flavor: Flavor
    hostname: str
    expose: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    revision: str = ""
    """What it is made of: a node that was made with another one is old."""
    shares: Mapping[str, str] = field(default_factory=dict)
    """Directories of the conductor's machine that it has, read-only: by path in the node. They
    follow from its revision."""


@dataclass(frozen=True, slots=True)
class NodeRef:
    """The name of a real node: enough to find, reach and delete it."""

    owner: str
    name: str


@dataclass(frozen=True, slots=True)
class ObservedNode:
    """A node as its provider sees it now.

    `address` is its IPv4 address within the cluster, reachable from the conductor.
    `endpoint` is the `host:port` under which clients outside reach `NodeSpec.expose`; several nodes
    of a cluster may have the same one, which leads to the one of them that is `published`.
    `reason` says why the state is not RUNNING, or what is wrong with a node that runs;
    `mendable`: `ensure` puts that right, without an end to what runs there.
    """

    ref: NodeRef
    role: Role
    state: NodeState
    address: str | None = None
    endpoint: str | None = None
    reason: str = ""
    revision: str = ""
    """As in the NodeSpec that it was made by; empty where that is not known."""
    mendable: bool = False
    published: bool = False

    @property
    def name(self) -> str:
        return self.ref.name
