"""Bays on the wire: clusters under their name of before 2016, as versions up to 1.10 have them.

The fields are those of Magnum 11.0.0 (magnum/api/controllers/v1/bay.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from typing_extensions import TypedDict

from moorage.api.links import Link, links
from moorage.api.schemas.cluster import ClusterCreate, cluster_body, cluster_summary
from moorage.api.schemas.common import Count, Labels, Sent
from moorage.api.versions import LEAST
from moorage.model.cluster import Cluster
from moorage.services import LabelDifferences, NewCluster


class BayCreate(Sent):
    """`POST /v1/bays`. `bay_create_timeout` is in minutes."""

    baymodel_id: str
    name: str | None = None
    node_count: Count | None = None
    master_count: Count | None = None
    flavor_id: str | None = None
    master_flavor_id: str | None = None
    labels: Labels | None = None
    bay_create_timeout: Count | None = None

    discovery_url: str | None = None
    docker_volume_size: Count | None = None
    fixed_network: str | None = None
    fixed_subnet: str | None = None
    floating_ip_enabled: bool | None = None
    master_lb_enabled: bool | None = None

    def wanted(self) -> NewCluster:
        same = self.model_dump(exclude={"baymodel_id", "bay_create_timeout"})
        return ClusterCreate(
            cluster_template_id=self.baymodel_id, create_timeout=self.bay_create_timeout, **same
        ).wanted()


class BaySummary(TypedDict):
    """A bay as a list shows it."""

    uuid: str
    name: str
    baymodel_id: str
    node_count: int
    master_count: int
    docker_volume_size: int | None
    labels: dict[str, str]
    master_flavor_id: str
    flavor_id: str
    bay_create_timeout: int
    stack_id: str
    status: str
    links: list[Link]


class BayBody(BaySummary):
    """A bay as it is shown by itself."""

    status_reason: str | None
    discovery_url: str | None
    api_address: str | None
    coe_version: str | None
    container_version: str | None
    node_addresses: list[str]
    master_addresses: list[str]
    bay_faults: dict[str, str]
    fixed_network: str | None
    fixed_subnet: str | None
    floating_ip_enabled: bool
    master_lb_enabled: bool
    created_at: str | None
    updated_at: str | None


class BayList(TypedDict):
    bays: list[BaySummary]
    next: str | None


class BayDetailList(TypedDict):
    bays: list[BayBody]
    next: str | None


def bay_summary(cluster: Cluster, base: str) -> BaySummary:
    now = cluster_summary(cluster, base, LEAST)
    return {
        "uuid": now["uuid"],
        "name": now["name"],
        "baymodel_id": now["cluster_template_id"],
        "node_count": now["node_count"],
        "master_count": now["master_count"],
        "docker_volume_size": now["docker_volume_size"],
        "labels": now["labels"],
        "master_flavor_id": now["master_flavor_id"],
        "flavor_id": now["flavor_id"],
        "bay_create_timeout": now["create_timeout"],
        "stack_id": now["stack_id"],
        "status": now["status"],
        "links": links(base, "bays", cluster.uuid),
    }


_NO_DIFFERENCES = LabelDifferences({}, {}, {})


def bay_body(cluster: Cluster, base: str) -> BayBody:
    now = cluster_body(cluster, _NO_DIFFERENCES, base, LEAST)
    return {
        **bay_summary(cluster, base),
        "status_reason": now["status_reason"],
        "discovery_url": now["discovery_url"],
        "api_address": now["api_address"],
        "coe_version": now["coe_version"],
        "container_version": now["container_version"],
        "node_addresses": now["node_addresses"],
        "master_addresses": now["master_addresses"],
        "bay_faults": now["faults"],
        "fixed_network": now["fixed_network"],
        "fixed_subnet": now["fixed_subnet"],
        "floating_ip_enabled": now["floating_ip_enabled"],
        "master_lb_enabled": now["master_lb_enabled"],
        "created_at": now["created_at"],
        "updated_at": now["updated_at"],
    }


def bay_list(clusters: Iterable[Cluster], base: str, following: str | None) -> BayList:
    return {"bays": [bay_summary(cluster, base) for cluster in clusters], "next": following}


def bay_detail_list(clusters: Iterable[Cluster], base: str, following: str | None) -> BayDetailList:
    return {"bays": [bay_body(cluster, base) for cluster in clusters], "next": following}
