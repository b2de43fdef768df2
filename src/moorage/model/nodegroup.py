"""A node group: nodes of one cluster that are alike."""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from moorage.model.node import Flavor, Role
from moorage.model.status import ClusterStatus

MASTER_ROLE = "master"
"""The one role that means something to Moorage; all others are their tenant's own words."""
DEFAULTS = {"default-master": "master", "default-worker": "worker"}
"""The groups that every cluster has, and what their nodes' names begin with."""
PREFIX_LENGTH = 20


@dataclass(frozen=True, slots=True)
class Taint:
    """As Kubernetes has it: `key[=value]:effect`."""

    key: str
    effect: str
    value: str = ""

    def __str__(self) -> str:
        return (
            f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"
        )


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Wanted (upper half, written by services), seen (lower half, by the conductor).

    `ordinals` are the numbers of its nodes, in order: the node 2 of a group whose prefix
    is `gpu` is called gpu-2. A number that was removed leaves a gap.
    `removed` are numbers whose nodes somebody has removed by name, until they are seen to
    be gone: they are not given again meanwhile.
    `template_uuid` is the template that its nodes are made by: another one renews them.
    `former_uuid` is the one before, while a node of it may be left. `held`: renewing them has
    failed, and waits for somebody to ask for it again.
    `labels` are the group's own, as the API has them; `node_labels` go onto its nodes.
    """

    uuid: str
    name: str
    prefix: str
    role: str
    flavor: Flavor
    ordinals: tuple[int, ...]
    template_uuid: str
    former_uuid: str | None = None
    held: bool = False
    removed: tuple[int, ...] = ()
    image_id: str | None = None
    min_node_count: int = 0
    max_node_count: int | None = None
    docker_volume_size: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    merge_labels: bool = False
    node_labels: Mapping[str, str] = field(default_factory=dict)
    node_taints: tuple[Taint, ...] = ()
    created_at: datetime.datetime | None = None
    updated_at: datetime.datetime | None = None

    status: ClusterStatus = ClusterStatus.CREATE_IN_PROGRESS
    status_reason: str | None = None
    addresses: Mapping[str, str] = field(default_factory=dict)
    """By node name: the addresses of those that are there."""

    @property
    def is_default(self) -> bool:
        return self.name in DEFAULTS

    @property
    def kind(self) -> Role:
        return Role.MASTER if self.role == MASTER_ROLE else Role.WORKER

    @property
    def node_count(self) -> int:
        return len(self.ordinals)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the nodes that it wants, in order."""
        return tuple(f"{self.prefix}-{number}" for number in self.ordinals)

    @property
    def revision(self) -> str:
        """What its nodes are made of, as 16 hexadecimal digits: a node with another one is old."""
        made_of = (self.template_uuid, self.flavor, self.image_id)
        return hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]


def prefix_for(name: str, taken: Collection[str]) -> str:
    """What the names of a new group's nodes begin with: `GPU nodes!` is gpu-nodes."""
    if name in DEFAULTS:
        return DEFAULTS[name]
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:PREFIX_LENGTH].strip("-")
    slug = slug if slug[:1].isalpha() else f"g{slug}"
    used = {*taken, *DEFAULTS.values()}
    candidates = (slug, *(f"{slug}x{number}" for number in range(2, len(used) + 3)))
    return next(candidate for candidate in candidates if candidate not in used)
