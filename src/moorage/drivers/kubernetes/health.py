"""What is not as it should be, a reason for each node (pure)."""

from __future__ import annotations

from moorage.drivers.kubernetes.hosting import is_hosted
from moorage.drivers.kubernetes.seen import KubeObserved, Standing
from moorage.model.cluster import ClusterSpec, Health, HealthStatus
from moorage.model.node import NodeState, Role

LOST = (
    "the cluster was lost with the disks of its masters: a new one is made, "
    "and what ran in it has to be deployed again"
)


def health(cluster: ClusterSpec, seen: KubeObserved) -> Health:
    """HEALTHY when every API server and every node that is wanted is ready."""
    reasons = {}
    if is_lost(cluster, seen):
        reasons["api"] = LOST
    elif seen.objects is None and seen.trouble:
        reasons["api"] = seen.trouble
    for group in cluster.groups:
        for name in group.nodes:
            node = seen.nodes.get(name)
            known = node.reason if node and node.state is NodeState.RUNNING else ""
            own = _reason(cluster, seen, name, master=group.role is Role.MASTER)
            if said := [why for why in (known, own) if why]:
                reasons[name] = "; ".join(said)
    return Health(HealthStatus.UNHEALTHY if reasons else HealthStatus.HEALTHY, reasons)


def is_lost(cluster: ClusterSpec, seen: KubeObserved) -> bool:
    """Whether no master can hold the cluster any more that workers are still nodes of."""
    gone = {Standing.ABSENT, Standing.BLANK}
    masters = {seen.standing(name, master=True) for name in cluster.of(Role.MASTER)}
    workers = {seen.standing(name) for name in cluster.of(Role.WORKER)}
    return seen.members is None and masters <= gone and Standing.UP in workers


def _reason(cluster: ClusterSpec, seen: KubeObserved, name: str, *, master: bool) -> str:
    """Why the node is not ready; empty when it is, or when the API as a whole is to blame."""
    node, api = seen.nodes.get(name), seen.apis.get(name)
    match seen.standing(name, master=master):
        case Standing.ABSENT:
            reason = _said("broken" if node else "missing", node.reason if node else "")
        case Standing.STOPPED:
            reason = _said("stopped", node.reason if node else "")
        case Standing.BLANK:
            reason = "it is no master yet"
        case _ if api is not None and api.trouble:
            reason = f"its API server is {api.trouble}" if api.answers else api.trouble
        case _ if master and is_hosted(cluster):
            reason = ""
        case _:
            reason = _as_node(cluster, seen, name)
    return reason


def _as_node(cluster: ClusterSpec, seen: KubeObserved, name: str) -> str:
    kubelet, there = seen.kubelets.get(name), seen.object(cluster.name, name)
    if kubelet is None or not kubelet.answers:
        return (kubelet.trouble if kubelet else "") or "its kubelet does not answer"
    if seen.objects is None:
        return ""
    if there is None:
        return "Kubernetes has no such node"
    return "" if there.is_ready else _said("not ready", there.trouble)


def _said(what: str, why: str) -> str:
    return f"{what}: {why}" if why else what
