"""A cluster as a row, and back."""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlalchemy import Row

from moorage.model.cluster import Cluster, ClusterStatus, Health, HealthStatus

PLAIN = tuple(
    field.name
    for field in dataclasses.fields(Cluster)
    if field.name not in {"health", "status", "master_addresses", "node_addresses"}
)
"""The fields whose column has the same name and the same value."""


def cluster_of(row: Row[Any]) -> Cluster:
    """`row` holds at least the columns that show in a Cluster."""
    columns = row._mapping
    return Cluster(
        **{name: columns[name] for name in PLAIN},
        status=ClusterStatus(columns["status"]),
        health=Health(HealthStatus(columns["health_status"]), columns["health_reasons"]),
        master_addresses=tuple(columns["master_addresses"]),
        node_addresses=tuple(columns["node_addresses"]),
    )


def values_of(cluster: Cluster) -> dict[str, Any]:
    """Every column that shows in a Cluster, its row number left to the database."""
    plain = {name: getattr(cluster, name) for name in PLAIN if name != "id"}
    return {
        **plain,
        **seen_values(cluster),
        **verdict_values(cluster),
        "labels": dict(cluster.labels),
        "options": dict(cluster.options),
    }


def seen_values(cluster: Cluster) -> dict[str, Any]:
    """What looking at a cluster tells, whatever is wanted of it."""
    return {
        **health_values(cluster),
        "api_address": cluster.api_address,
        "coe_version": cluster.coe_version,
        "container_version": cluster.container_version,
        "master_addresses": list(cluster.master_addresses),
        "node_addresses": list(cluster.node_addresses),
    }


def health_values(cluster: Cluster) -> dict[str, Any]:
    return {
        "health_status": cluster.health.status.value,
        "health_reasons": dict(cluster.health.reasons),
    }


def verdict_values(cluster: Cluster) -> dict[str, Any]:
    """What is said of the way to what is wanted: void once something else is."""
    return {
        "status": cluster.status.value,
        "status_reason": cluster.status_reason,
        "deadline": cluster.deadline,
        "attempts": cluster.attempts,
    }
