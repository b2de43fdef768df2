"""Clusters on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NotRequired

from typing_extensions import TypedDict

from moorage.api.links import Link, links
from moorage.api.schemas.common import Count, Labels, Sent, stamp
from moorage.api.versions import NAMES_CLUSTER_ID
from moorage.model.cluster import Cluster
from moorage.services import LabelDifferences, NewCluster, NewRelease, NewSize


class ClusterCreate(Sent):
    """`POST /v1/clusters`. `create_timeout` is in minutes."""

    cluster_template_id: str
    name: str | None = None
    node_count: Count | None = None
    master_count: Count | None = None
    flavor_id: str | None = None
    master_flavor_id: str | None = None
    labels: Labels | None = None
    merge_labels: bool | None = None
    create_timeout: Count | None = None

    discovery_url: str | None = None
    docker_volume_size: Count | None = None
    fixed_network: str | None = None
    fixed_subnet: str | None = None
    floating_ip_enabled: bool | None = None
    keypair: str | None = None
    master_lb_enabled: bool | None = None

    def wanted(self) -> NewCluster:
        return NewCluster(
            template=self.cluster_template_id,
            name=self.name,
            node_count=self.node_count,
            master_count=self.master_count,
            flavor_id=self.flavor_id,
            master_flavor_id=self.master_flavor_id,
            labels=self.labels,
            merge_labels=bool(self.merge_labels),
            create_timeout=self.create_timeout,
            options={name: getattr(self, name) for name in _OPTIONS},
        )


_OPTIONS = (
    "discovery_url",
    "docker_volume_size",
    "fixed_network",
    "fixed_subnet",
    "floating_ip_enabled",
    "keypair",
    "master_lb_enabled",
)


class ClusterResize(Sent):
    """`POST .../actions/resize`. `nodes_to_remove`: names or addresses of nodes.

    A `nodegroup` of null, or "" as some clients send it: the default workers.
    """

    node_count: Count
    nodes_to_remove: list[str] | None = None
    nodegroup: str | None = None

    def wanted(self) -> NewSize:
        return NewSize(self.node_count, tuple(self.nodes_to_remove or ()), self.nodegroup or None)


class ClusterUpgrade(Sent):
    """`POST .../actions/upgrade`. So many nodes may be away at once: 1 where it is not said."""

    cluster_template: str
    max_batch_size: Count | None = None
    nodegroup: str | None = None

    def wanted(self) -> NewRelease:
        return NewRelease(self.cluster_template, self.max_batch_size, self.nodegroup or None)


class ClusterAccepted(TypedDict):
    """The whole answer to a change that the conductor will make."""

    uuid: str


class ClusterSummary(TypedDict):
    """A cluster as a list shows it: 14 fields, and links."""

    uuid: str
    name: str
    cluster_template_id: str
    keypair: str | None
    node_count: int
    master_count: int
    docker_volume_size: int | None
    labels: dict[str, str]
    master_flavor_id: str
    flavor_id: str
    create_timeout: int
    stack_id: NotRequired[str]
    cluster_id: NotRequired[str]
    status: str
    health_status: str
    links: list[Link]


class ClusterBody(ClusterSummary):
    """A cluster as it is shown by itself."""

    labels_overridden: dict[str, str]
    labels_added: dict[str, str]
    labels_skipped: dict[str, str]
    merge_labels: bool
    status_reason: str | None
    health_status_reason: dict[str, str]
    discovery_url: str | None
    api_address: str | None
    coe_version: str | None
    container_version: str | None
    project_id: str
    user_id: str
    node_addresses: list[str]
    master_addresses: list[str]
    faults: dict[str, str]
    fixed_network: str | None
    fixed_subnet: str | None
    floating_ip_enabled: bool
    master_lb_enabled: bool
    created_at: str | None
    updated_at: str | None


class ClusterList(TypedDict):
    clusters: list[ClusterSummary]
    next: str | None


class ClusterDetailList(TypedDict):
    clusters: list[ClusterBody]
    next: str | None


def cluster_summary(cluster: Cluster, base: str, minor: int) -> ClusterSummary:
    options: Any = cluster.options
    # Heat's stack in Magnum; here there is none, and it is the cluster itself.
    id_field = "cluster_id" if minor >= NAMES_CLUSTER_ID else "stack_id"
    body: Any = {
        "uuid": cluster.uuid,
        "name": cluster.name,
        "cluster_template_id": cluster.template_uuid,
        "keypair": options.get("keypair"),
        "node_count": cluster.node_count,
        "master_count": cluster.master_count,
        "docker_volume_size": options.get("docker_volume_size"),
        "labels": cluster.labels,
        "master_flavor_id": cluster.master_flavor_id,
        "flavor_id": cluster.flavor_id,
        "create_timeout": cluster.create_timeout,
        id_field: cluster.uuid,
        "status": cluster.status.value,
        "health_status": cluster.health.status.value,
        "links": links(base, "clusters", cluster.uuid),
    }
    shaped: ClusterSummary = body
    return shaped


def cluster_body(
    cluster: Cluster, differences: LabelDifferences, base: str, minor: int
) -> ClusterBody:
    options: Any = cluster.options
    return {
        **cluster_summary(cluster, base, minor),
        "labels_overridden": dict(differences.overridden),
        "labels_added": dict(differences.added),
        "labels_skipped": dict(differences.skipped),
        "merge_labels": bool(options.get("merge_labels")),
        "status_reason": cluster.status_reason,
        "health_status_reason": dict(cluster.health.reasons),
        "discovery_url": options.get("discovery_url"),
        "api_address": cluster.api_address,
        "coe_version": cluster.coe_version,
        "container_version": cluster.container_version,
        "project_id": cluster.project_id,
        "user_id": cluster.user_id,
        "node_addresses": list(cluster.node_addresses),
        "master_addresses": list(cluster.master_addresses),
        "faults": _faults(cluster),
        "fixed_network": options.get("fixed_network"),
        "fixed_subnet": options.get("fixed_subnet"),
        "floating_ip_enabled": bool(options.get("floating_ip_enabled")),
        "master_lb_enabled": bool(options.get("master_lb_enabled")),
        "created_at": stamp(cluster.created_at),
        "updated_at": stamp(cluster.updated_at),
    }


def _faults(cluster: Cluster) -> dict[str, str]:
    """Why it failed, by node group; by the cluster's own name where that was no group's fault."""
    if not cluster.status.failed:
        return {}
    failed = [group for group in cluster.groups if group.status.failed]
    if not failed:
        return {cluster.name: cluster.status_reason or ""}
    return {group.name: group.status_reason or "" for group in failed}


def cluster_list(
    clusters: Iterable[Cluster], base: str, minor: int, following: str | None
) -> ClusterList:
    shaped = [cluster_summary(cluster, base, minor) for cluster in clusters]
    return {"clusters": shaped, "next": following}


def cluster_detail_list(
    clusters: Iterable[tuple[Cluster, LabelDifferences]],
    base: str,
    minor: int,
    following: str | None,
) -> ClusterDetailList:
    shaped = [cluster_body(cluster, labels, base, minor) for cluster, labels in clusters]
    return {"clusters": shaped, "next": following}


def accepted(cluster: Cluster) -> ClusterAccepted:
    return {"uuid": cluster.uuid}
