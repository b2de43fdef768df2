"""Quotas: how much of each resource a project may hold."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Mapping
from dataclasses import dataclass

UNLIMITED = -1


class Resource(enum.StrEnum):
    """What is counted. `Cluster` is Magnum's own; memory is in MiB, disk in GiB."""

    CLUSTER = "Cluster"
    NODE = "Node"
    CPU = "CPU"
    MEMORY = "Memory"
    DISK = "Disk"


Amounts = Mapping[Resource, int]
"""So much of each resource; one that is missing counts as 0 (used) or unlimited (allowed)."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What an admin has set for a project; `hard_limit` UNLIMITED: no bound.

    `id` is 0, and the times are None, for a default that nobody has set.
    """

    project_id: str
    resource: Resource
    hard_limit: int
    id: int = 0
    created_at: datetime.datetime | None = None
    updated_at: datetime.datetime | None = None
