"""A cluster as it was seen, and what follows from it about each node (pure)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from moorage.clients.kubernetes_wire import EtcdMember, NodeObject
from moorage.drivers.hostnames import hostname, node_of
from moorage.drivers.kubernetes.hosting import runs_pods
from moorage.model.cluster import ClusterSpec
from moorage.model.node import NodeState, ObservedNode
from moorage.model.ports import Observed


class Standing(enum.Enum):
    """Where a node is on its way into the cluster."""

    ABSENT = "absent"
    """It has to be made, with an empty disk."""
    STOPPED = "stopped"
    BLANK = "blank"
    """A master that runs, and whose disk holds no data of etcd."""
    SILENT = "silent"
    """It runs, and its kubelet (a master's: its API server) doesn't answer."""
    UP = "up"


@dataclass(frozen=True, slots=True)
class ServerSeen:
    """An API server or a kubelet. `revision`: of the authority whose certificate it shows.

    `trouble`: why it does not answer, or is not ready.
    """

    answers: bool = True
    trouble: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class KubeObserved(Observed):
    """`apis`, `kubelets`: by name, of the nodes that run; a hosted master has no kubelet.

    `has_data`: of masters whose API server is silent, whether etcd has data there.
    `members`: etcd's; None where none of them told. `objects`: the nodes as Kubernetes has
    them; None where no API server told. `own`: the paths of Moorage's own objects (`access.py`)
    that are there; `applied`: what is noted of them; `notes`: and of hosted masters, by name.
    `trouble`: why there is no answer.
    """

    apis: Mapping[str, ServerSeen] = field(default_factory=dict)
    kubelets: Mapping[str, ServerSeen] = field(default_factory=dict)
    has_data: Mapping[str, bool] = field(default_factory=dict)
    members: tuple[EtcdMember, ...] | None = None
    objects: tuple[NodeObject, ...] | None = None
    own: frozenset[str] = frozenset()
    applied: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""

    def standing(self, name: str, *, master: bool = False) -> Standing:
        node = self.nodes.get(name)
        if node is None or node.state is NodeState.BROKEN:
            return Standing.ABSENT
        if node.state is NodeState.STOPPED:
            return Standing.STOPPED
        if master:
            api = self.apis.get(name)
            if api is not None and api.answers:
                return Standing.UP
            return Standing.SILENT if self.has_data.get(name, True) else Standing.BLANK
        kubelet = self.kubelets.get(name)
        return Standing.UP if kubelet is not None and kubelet.answers else Standing.SILENT

    def is_ready(self, name: str) -> bool:
        """Whether the master's API server answers, and is ready."""
        api = self.apis.get(name)
        return api is not None and api.answers and not api.trouble

    def object(self, cluster: str, name: str) -> NodeObject | None:
        """The node as Kubernetes has it."""
        wanted = hostname(cluster, name)
        return next((each for each in self.objects or () if each.name == wanted), None)

    def member(self, cluster: str, name: str) -> EtcdMember | None:
        """The master as a member of etcd's cluster: by its name, or by its address where it
        has none yet, for it has not started."""
        node = self.nodes.get(name)
        for each in self.members or ():
            if each.name == hostname(cluster, name):
                return each
            if not each.name and node is not None and node.address is not None:
                peers = {peer.removeprefix("https://").rpartition(":")[0] for peer in each.peers}
                if node.address in peers:
                    return each
        return None

    def strangers(self, cluster: str, known: frozenset[str]) -> list[NodeObject]:
        """Nodes in Kubernetes that were this cluster's and are none of the `known` ones."""
        return [
            each
            for each in self.objects or ()
            if (name := node_of(cluster, each.name)) is not None and name not in known
        ]

    def useless(self, cluster: ClusterSpec) -> frozenset[str]:
        """The running nodes that are no use to their cluster, and may have to be replaced."""
        return frozenset(
            name
            for name, node in self.nodes.items()
            if node.state is NodeState.RUNNING
            and not node.reason
            and self._is_useless(cluster, node)
        )

    def _is_useless(self, cluster: ClusterSpec, node: ObservedNode) -> bool:
        kubelet, api = self.kubelets.get(node.name), self.apis.get(node.name)
        if api is not None and (not api.answers or api.trouble):
            return True  # not ready: most often its etcd, which nobody else asks
        if not runs_pods(cluster, node.role):
            return False
        if kubelet is None or not kubelet.answers:
            return True
        there = self.object(cluster.name, node.name)
        return self.objects is not None and (there is None or not there.is_ready)
