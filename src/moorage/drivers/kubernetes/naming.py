"""What the nodes of a cluster are called, and how they are marked in Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from moorage.drivers.hostnames import hostname
from moorage.drivers.kubernetes.versions import Fact
from moorage.model.cluster import ClusterSpec, GroupSpec
from moorage.model.node import NodeSpec, Role
from moorage.model.nodegroup import Taint

PORT = 6443
BINARIES = "/opt/kubernetes"
"""Where a node has the release."""
VERSION = "kube_tag"
"""The label that names the release, as Magnum has it."""

PREFIX = "moorage.org/"
GROUP, ROLE = f"{PREFIX}nodegroup", "magnum.openstack.org/role"
NODEGROUP = "magnum.openstack.org/nodegroup"
"""Labels that Magnum gives to nodes, which tenants' manifests may select by."""
OURS, OUR_TAINTS = f"{PREFIX}labels", f"{PREFIX}taints"
"""Annotations: the names of the labels and taints that a node has from its group."""
DRAINED = f"{PREFIX}drained"
"""Annotation of a node that Moorage keeps free of pods while it is renewed."""
LAID = f"{PREFIX}laid"
"""Annotation: a digest of what its programs were started with."""
ROLE_MASTER = "node-role.kubernetes.io/master"
ROLE_CONTROL_PLANE = "node-role.kubernetes.io/control-plane"


@dataclass(frozen=True, slots=True)
class Marks:
    """How a node is marked: `own_labels` and `own_taints` are those that its group gave it."""

    labels: Mapping[str, str]
    taints: tuple[Taint, ...]

    @property
    def annotations(self) -> dict[str, str]:
        """What tells Moorage's labels and taints from those of the tenant."""
        return {
            OURS: " ".join(sorted(self.labels)),
            OUR_TAINTS: " ".join(sorted(f"{t.key}:{t.effect}" for t in self.taints)),
        }


def node_specs(cluster: ClusterSpec, releases: Path) -> list[NodeSpec]:
    """The nodes that the cluster wants, group by group, the masters first."""
    share = {BINARIES: str(releases / version(cluster))}
    return [
        NodeSpec(
            owner=cluster.uuid,
            name=name,
            role=group.role,
            flavor=group.flavor,
            hostname=hostname(cluster.name, name),
            expose=PORT if group.role is Role.MASTER else None,
            labels=group.labels,
            image=group.image,
            revision=group.revision,
            shares=share,
        )
        for group in in_order(cluster)
        for name in group.nodes
    ]


def in_order(cluster: ClusterSpec) -> list[GroupSpec]:
    return sorted(cluster.groups, key=lambda group: group.role is not Role.MASTER)


def version(cluster: ClusterSpec) -> str:
    """The release that the cluster wants, such as `v1.20.2`; empty where nobody said."""
    return cluster.labels.get(VERSION, "")


def marks(group: GroupSpec, version: str) -> Marks:
    """The labels and taints of a group's nodes."""
    labels = {**group.labels, GROUP: group.name, ROLE: str(group.role), NODEGROUP: group.name}
    taints = list(group.taints)
    if group.role is Role.MASTER:
        if Fact.MASTER_LABEL.holds(version):
            labels[ROLE_MASTER] = ""
            taints.append(Taint(ROLE_MASTER, "NoSchedule"))
        labels[ROLE_CONTROL_PLANE] = ""
        if Fact.CONTROL_PLANE_TAINT.holds(version):
            taints.append(Taint(ROLE_CONTROL_PLANE, "NoSchedule"))
    return Marks(labels, tuple(taints))
