"""A cluster (once: bay): what a tenant wants, and what is known of it."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from moorage.model.healing import Healing
from moorage.model.node import Flavor, Role
from moorage.model.nodegroup import NodeGroup, Taint
from moorage.model.quota import Amounts, Resource
from moorage.model.status import ClusterStatus

if TYPE_CHECKING:
    from moorage.model.ports import Authority

__all__ = [
    "Cluster",
    "ClusterSpec",
    "ClusterStatus",
    "GroupSpec",
    "Health",
    "HealthStatus",
    "Rotation",
    "spec_of",
]


class HealthStatus(enum.StrEnum):
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    UNKNOWN = "UNKNOWN"


class Rotation(enum.StrEnum):
    """How far the exchange of a cluster's CA has got.

    Every node passes through the one before any node enters the other, and old and new
    client certificates are good on every node all the while. Once it is over, the nodes
    forget the old CA.
    """

    TRUST = "trust"
    """The nodes learn to trust the new CA beside the old one."""
    SERVE = "serve"
    """The nodes' own certificates become the new CA's, which is also signed by the old one."""


@dataclass(frozen=True, slots=True)
class Health:
    """What the engines say. `reasons`: one entry a finding, e.g. `{"worker-0": "no answer"}`."""

    status: HealthStatus = HealthStatus.UNKNOWN
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster: wanted (upper half, written by services), seen (lower half, by the conductor).

    Times are aware, in UTC. `create_timeout` is in minutes, as in the API.
    `groups` begin with the two default ones, the masters' first; groups that are being
    deleted are among them until their nodes are gone.
    `credentials` counts the rotations of what members join with.
    `attempts` counts the turns in a row that did not get where they wanted.
    """

    uuid: str
    project_id: str
    user_id: str
    name: str
    template_uuid: str
    coe: str
    provider: str
    create_timeout: int
    groups: tuple[NodeGroup, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    batch_size: int = 1
    """How many nodes of an upgrade may be away at once."""
    rotation: Rotation | None = None
    credentials: int = 0
    fallback: tuple[NodeGroup, ...] | None = None
    """The groups of before a change that is to be rolled back if it fails."""
    deadline: datetime.datetime | None = None
    forced_by: str | None = None
    """The admin who had it deleted by force: then its row goes though something remains."""
    created_at: datetime.datetime | None = None
    updated_at: datetime.datetime | None = None

    status: ClusterStatus = ClusterStatus.CREATE_IN_PROGRESS
    status_reason: str | None = None
    health: Health = field(default_factory=Health)
    api_address: str | None = None
    coe_version: str | None = None
    container_version: str | None = None
    attempts: int = 0
    seen_at: datetime.datetime | None = None
    """When its driver last looked at it: `health` is of that time."""
    healing: Healing = field(default_factory=Healing)
    id: int = 0
    """The store's own row number: the default order of lists. 0 until stored."""

    @property
    def default_master(self) -> NodeGroup:
        return self.groups[0]

    @property
    def default_worker(self) -> NodeGroup:
        return self.groups[1]

    @property
    def master_count(self) -> int:
        return sum(group.node_count for group in self.groups if group.kind is Role.MASTER)

    @property
    def node_count(self) -> int:
        """Of all groups but the masters', as the API counts."""
        return sum(group.node_count for group in self.groups if group.kind is Role.WORKER)

    @property
    def flavor_id(self) -> str:
        return self.default_worker.flavor.name

    @property
    def master_flavor_id(self) -> str:
        return self.default_master.flavor.name

    @property
    def master_addresses(self) -> tuple[str, ...]:
        return tuple(self._addresses(Role.MASTER))

    @property
    def node_addresses(self) -> tuple[str, ...]:
        return tuple(self._addresses(Role.WORKER))

    def _addresses(self, kind: Role) -> Iterator[str]:
        for group in self.groups:
            if group.kind is kind:
                yield from group.addresses.values()

    @property
    def takes(self) -> Amounts:
        """What it takes of its project's quota, groups that are being deleted included.

        Where it may have to go back, room for that is kept.
        """
        now, before = _taken(self.groups), _taken(self.fallback or ())
        return {Resource.CLUSTER: 1} | {
            resource: max(amount, before[resource]) for resource, amount in now.items()
        }


def _taken(groups: Iterable[NodeGroup]) -> Amounts:
    sizes = [(group.node_count, group.flavor) for group in groups]
    return {
        Resource.NODE: sum(count for count, _ in sizes),
        Resource.CPU: sum(count * flavor.vcpus for count, flavor in sizes),
        Resource.MEMORY: sum(count * flavor.memory_mib for count, flavor in sizes),
        Resource.DISK: sum(count * flavor.disk_gib for count, flavor in sizes),
    }


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """A node group as a driver is told of it. `nodes`: the names of its nodes, in order."""

    name: str
    role: Role
    flavor: Flavor
    nodes: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    image: str | None = None
    revision: str = ""
    held: bool = False
    """Its nodes of an older revision stay as they are."""


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What a driver is told: the cluster that is wanted, its CA, and how it went so far.

    `renewing` are nodes of an older revision that this plan is to renew: each is drained,
    made anew on its disk by its ENSURE_NODE, and brought back. Others of an older
    revision are left as they are.
    """

    uuid: str
    name: str
    coe: str
    groups: tuple[GroupSpec, ...]
    authority: Authority
    labels: Mapping[str, str] = field(default_factory=dict)
    credentials: int = 0
    attempts: int = 0
    strikes: Mapping[str, int] = field(default_factory=dict)
    """By node that fails: the number of times in a row that it was seen so (planning/healing)."""
    restarted: Mapping[str, int] = field(default_factory=dict)
    """The nodes among them on which a step with RESTART was done since: at which strike."""
    renewing: frozenset[str] = frozenset()

    def of(self, role: Role) -> list[str]:
        """The names of all nodes of that role, group by group."""
        return [name for group in self.groups if group.role is role for name in group.nodes]


def spec_of(cluster: Cluster, authority: Authority) -> ClusterSpec:
    """The cluster as its driver is told of it: without the groups that are to go."""
    return ClusterSpec(
        uuid=cluster.uuid,
        name=cluster.name,
        coe=cluster.coe,
        groups=tuple(
            GroupSpec(
                name=group.name,
                role=group.kind,
                flavor=group.flavor,
                nodes=group.nodes,
                labels=group.node_labels,
                taints=group.node_taints,
                image=group.image_id,
                revision=group.revision,
                held=group.held,
            )
            for group in cluster.groups
            if not group.status.deleting
        ),
        authority=authority,
        labels=cluster.labels,
        credentials=cluster.credentials,
        attempts=cluster.attempts,
        strikes=cluster.healing.counts,
        restarted=cluster.healing.restarted,
    )
