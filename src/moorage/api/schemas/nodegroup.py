"""Node groups on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typing_extensions import TypedDict

from moorage.api.links import Link
from moorage.api.schemas.common import Count, Labels, Sent, stamp
from moorage.model.cluster import Cluster
from moorage.model.nodegroup import NodeGroup
from moorage.services import NewNodeGroup, differences


class NodeGroupCreate(Sent):
    """`POST .../nodegroups`. `node_taints`: objects with `key`, `effect` and maybe `value`."""

    name: str
    node_count: Count | None = None
    min_node_count: Count | None = None
    max_node_count: Count | None = None
    role: str | None = None
    flavor_id: str | None = None
    image_id: str | None = None
    docker_volume_size: Count | None = None
    labels: Labels | None = None
    merge_labels: bool | None = None
    node_labels: Labels | None = None
    node_taints: list[Any] | str | None = None

    def wanted(self) -> NewNodeGroup:
        return NewNodeGroup(
            name=self.name,
            node_count=self.node_count,
            min_node_count=self.min_node_count,
            max_node_count=self.max_node_count,
            role=self.role,
            flavor_id=self.flavor_id,
            image_id=self.image_id,
            docker_volume_size=self.docker_volume_size,
            labels=self.labels,
            merge_labels=bool(self.merge_labels),
            node_labels=self.node_labels,
            node_taints=self.node_taints,
        )


class TaintBody(TypedDict):
    key: str
    value: str
    effect: str


class NodeGroupSummary(TypedDict):
    """A node group as a list shows it: 9 fields, and no links."""

    uuid: str
    name: str
    flavor_id: str
    image_id: str | None
    node_count: int
    role: str
    is_default: bool
    status: str
    stack_id: str


class NodeGroupBody(NodeGroupSummary):
    """A node group as it is shown by itself. `stack_id` stays in every version, as in Magnum."""

    id: int
    cluster_id: str
    project_id: str
    docker_volume_size: int | None
    labels: dict[str, str]
    labels_overridden: dict[str, str]
    labels_added: dict[str, str]
    labels_skipped: dict[str, str]
    merge_labels: bool
    node_addresses: list[str]
    min_node_count: int
    max_node_count: int | None
    status_reason: str | None
    version: str | None
    node_labels: dict[str, str]
    node_taints: list[TaintBody]
    created_at: str | None
    updated_at: str | None
    links: list[Link]


class NodeGroupList(TypedDict):
    nodegroups: list[NodeGroupSummary]
    next: str | None


class NodeGroupDetailList(TypedDict):
    nodegroups: list[NodeGroupBody]
    next: str | None


def nodegroup_summary(cluster: Cluster, group: NodeGroup) -> NodeGroupSummary:
    return {
        "uuid": group.uuid,
        "name": group.name,
        "flavor_id": group.flavor.name,
        "image_id": group.image_id,
        "node_count": group.node_count,
        "role": group.role,
        "is_default": group.is_default,
        "status": group.status.value,
        "stack_id": cluster.uuid,
    }


def nodegroup_body(cluster: Cluster, group: NodeGroup, base: str) -> NodeGroupBody:
    labels = differences(cluster.labels, group.labels)
    path = f"clusters/{cluster.uuid}/nodegroups/{group.uuid}"
    return {
        **nodegroup_summary(cluster, group),
        "id": int(group.uuid[:7], 16) + 1,  # no row number: one that stays the same must do
        "cluster_id": cluster.uuid,
        "project_id": cluster.project_id,
        "docker_volume_size": group.docker_volume_size,
        "labels": dict(group.labels),
        "labels_overridden": dict(labels.overridden),
        "labels_added": dict(labels.added),
        "labels_skipped": dict(labels.skipped),
        "merge_labels": group.merge_labels,
        "node_addresses": list(group.addresses.values()),
        "min_node_count": group.min_node_count,
        "max_node_count": group.max_node_count,
        "status_reason": group.status_reason,
        "version": None,
        "node_labels": dict(group.node_labels),
        "node_taints": [
            {"key": taint.key, "value": taint.value, "effect": taint.effect}
            for taint in group.node_taints
        ],
        "created_at": stamp(group.created_at),
        "updated_at": stamp(group.updated_at),
        "links": [
            {"href": f"{base}/v1/{path}", "rel": "self"},
            {"href": f"{base}/{path}", "rel": "bookmark"},
        ],
    }


def nodegroup_list(
    cluster: Cluster, groups: Iterable[NodeGroup], following: str | None
) -> NodeGroupList:
    shaped = [nodegroup_summary(cluster, group) for group in groups]
    return {"nodegroups": shaped, "next": following}


def nodegroup_detail_list(
    cluster: Cluster, groups: Iterable[NodeGroup], base: str, following: str | None
) -> NodeGroupDetailList:
    shaped = [nodegroup_body(cluster, group, base) for group in groups]
    return {"nodegroups": shaped, "next": following}
