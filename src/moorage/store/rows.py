"""A cluster as a row, and back."""

from __future__ import annotations

import datetime
from typing import Any

from sqlalchemy import Row

from moorage.model.cluster import Cluster, ClusterStatus, Health, HealthStatus, Rotation
from moorage.model.healing import Healing, Strikes
from moorage.model.quota import Amounts, Resource
from moorage.store import groups

PLAIN = (
    "id",
    "uuid",
    "project_id",
    "user_id",
    "name",
    "template_uuid",
    "coe",
    "provider",
    "create_timeout",
    "labels",
    "options",
    "batch_size",
    "credentials",
    "deadline",
    "forced_by",
    "created_at",
    "updated_at",
    "status_reason",
    "api_address",
    "coe_version",
    "container_version",
    "attempts",
    "seen_at",
)
"""The fields whose column has the same name and the same value."""
COUNTED = {
    Resource.NODE: "nodes",
    Resource.CPU: "cpus",
    Resource.MEMORY: "memory_mib",
    Resource.DISK: "disk_gib",
}
"""The columns that hold what a cluster takes, by resource."""


def cluster_of(row: Row[Any]) -> Cluster:
    """`row` holds at least the columns that show in a Cluster."""
    columns = row._mapping
    rotation, fallback = columns["rotation"], columns["fallback"]
    return Cluster(
        **{name: columns[name] for name in PLAIN},
        groups=groups.all_read(columns["groups"]),
        rotation=None if rotation is None else Rotation(rotation),
        fallback=None if fallback is None else groups.all_read(fallback),
        status=ClusterStatus(columns["status"]),
        health=Health(HealthStatus(columns["health_status"]), columns["health_reasons"]),
        healing=_healing_read(columns["healing"]),
    )


def values_of(cluster: Cluster) -> dict[str, Any]:
    """Every column that shows in a Cluster or follows from it, its row number left out."""
    plain = {name: getattr(cluster, name) for name in PLAIN if name != "id"}
    return {
        **plain,
        **group_values(cluster),
        **seen_values(cluster),
        **verdict_values(cluster),
        "labels": dict(cluster.labels),
        "options": dict(cluster.options),
    }


def group_values(cluster: Cluster) -> dict[str, Any]:
    """The node groups, and what follows from them."""
    takes: Amounts = cluster.takes
    return {
        "groups": groups.all_written(cluster.groups),
        "fallback": None if cluster.fallback is None else groups.all_written(cluster.fallback),
        "flavor_id": cluster.flavor_id,
        "master_flavor_id": cluster.master_flavor_id,
        "master_count": cluster.master_count,
        "node_count": cluster.node_count,
        **{column: takes[resource] for resource, column in COUNTED.items()},
    }


def seen_values(cluster: Cluster) -> dict[str, Any]:
    """What looking at a cluster tells, whatever is wanted of it."""
    return {
        "health_status": cluster.health.status.value,
        "health_reasons": dict(cluster.health.reasons),
        "api_address": cluster.api_address,
        "coe_version": cluster.coe_version,
        "container_version": cluster.container_version,
        "seen_at": cluster.seen_at,
        "healing": _healing_written(cluster.healing),
    }


def verdict_values(cluster: Cluster) -> dict[str, Any]:
    """What is said of the way to what is wanted: void once something else is."""
    return {
        "status": cluster.status.value,
        "status_reason": cluster.status_reason,
        "deadline": cluster.deadline,
        "attempts": cluster.attempts,
        "rotation": None if cluster.rotation is None else cluster.rotation.value,
    }


def _healing_written(healing: Healing) -> dict[str, Any]:
    """Little: it is written with each turn."""
    written: dict[str, Any] = {}
    if healing.strikes:
        written["strikes"] = {
            name: [strikes.count, strikes.at.isoformat(), strikes.restarted]
            for name, strikes in healing.strikes.items()
        }
    if healing.replaced:
        written["replaced"] = [moment.isoformat() for moment in healing.replaced]
    return written


def _healing_read(written: dict[str, Any]) -> Healing:
    when = datetime.datetime.fromisoformat
    return Healing(
        {
            name: Strikes(count, when(at), *restarted)
            for name, (count, at, *restarted) in written.get("strikes", {}).items()
        },
        tuple(when(moment) for moment in written.get("replaced", ())),
    )
