"""A cluster (once: bay): what a tenant wants, and what is known of it."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from moorage.model.node import Flavor

if TYPE_CHECKING:
    from moorage.model.ports import Authority


class ClusterStatus(enum.StrEnum):
    """The statuses of the container-infra API that Moorage uses."""

    CREATE_IN_PROGRESS = "CREATE_IN_PROGRESS"
    CREATE_COMPLETE = "CREATE_COMPLETE"
    CREATE_FAILED = "CREATE_FAILED"
    UPDATE_IN_PROGRESS = "UPDATE_IN_PROGRESS"
    UPDATE_COMPLETE = "UPDATE_COMPLETE"
    UPDATE_FAILED = "UPDATE_FAILED"
    DELETE_IN_PROGRESS = "DELETE_IN_PROGRESS"
    DELETE_FAILED = "DELETE_FAILED"

    @property
    def in_progress(self) -> bool:
        return self.value.endswith("_IN_PROGRESS")

    @property
    def deleting(self) -> bool:
        return self.value.startswith("DELETE_")


class HealthStatus(enum.StrEnum):
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Health:
    """What the engines say. `reasons`: one entry a finding, e.g. `{"worker-0": "no answer"}`."""

    status: HealthStatus = HealthStatus.UNKNOWN
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster: wanted (upper half, written by services), seen (lower half, by the conductor).

    Times are aware, in UTC. `create_timeout` is in minutes, as in the API.
    `attempts` counts the turns in a row that did not get where they wanted.
    """

    uuid: str
    project_id: str
    user_id: str
    name: str
    template_uuid: str
    coe: str
    provider: str
    flavor_id: str
    master_flavor_id: str
    master_count: int
    node_count: int
    create_timeout: int
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    deadline: datetime.datetime | None = None
    created_at: datetime.datetime | None = None
    updated_at: datetime.datetime | None = None

    status: ClusterStatus = ClusterStatus.CREATE_IN_PROGRESS
    status_reason: str | None = None
    health: Health = field(default_factory=Health)
    api_address: str | None = None
    coe_version: str | None = None
    container_version: str | None = None
    master_addresses: tuple[str, ...] = ()
    node_addresses: tuple[str, ...] = ()
    attempts: int = 0
    id: int = 0
    """The store's own row number: the default order of lists. 0 until stored."""


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What a driver is told: the cluster that is wanted, its CA, and how it went so far."""

    uuid: str
    name: str
    coe: str
    masters: int
    workers: int
    flavor: Flavor
    master_flavor: Flavor
    authority: Authority
    labels: Mapping[str, str] = field(default_factory=dict)
    attempts: int = 0
