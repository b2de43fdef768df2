"""What is not as it should be, a reason for each node (pure)."""

from __future__ import annotations

from moorage.drivers.swarm.naming import node_specs
from moorage.drivers.swarm.seen import Standing, SwarmObserved
from moorage.model.cluster import ClusterSpec, Health, HealthStatus
from moorage.model.node import NodeSpec, NodeState, Role

LOST = (
    "the swarm was lost with the disk of its only manager: a new one is made, "
    "and its services have to be deployed again"
)


def health(cluster: ClusterSpec, seen: SwarmObserved) -> Health:
    """HEALTHY when every node that is wanted is ready in the swarm."""
    reasons = {}
    if is_lost(cluster, seen):
        reasons["swarm"] = LOST
    elif seen.members is None and seen.trouble:
        reasons["swarm"] = seen.trouble
    for spec in node_specs(cluster):
        node = seen.nodes.get(spec.name)
        known = node.reason if node and node.state is NodeState.RUNNING else ""
        if said := [why for why in (known, _reason(cluster, seen, spec)) if why]:
            reasons[spec.name] = "; ".join(said)
    return Health(HealthStatus.UNHEALTHY if reasons else HealthStatus.HEALTHY, reasons)


def is_lost(cluster: ClusterSpec, seen: SwarmObserved) -> bool:
    """Whether no master can hold the swarm any more that other nodes are still members of."""
    gone = {Standing.ABSENT, Standing.BLANK}
    standings = {spec.name: seen.standing(spec.name) for spec in node_specs(cluster)}
    masters = [standings[spec.name] for spec in node_specs(cluster) if spec.role is Role.MASTER]
    return set(masters) <= gone and Standing.IN_SWARM in standings.values()


def _reason(cluster: ClusterSpec, seen: SwarmObserved, spec: NodeSpec) -> str:
    """Why the node is not ready; empty when it is, or when the swarm as a whole is to blame."""
    node, engine = seen.nodes.get(spec.name), seen.engines.get(spec.name)
    match seen.standing(spec.name):
        case Standing.ABSENT:
            return _said("broken" if node else "missing", node.reason if node else "")
        case Standing.STOPPED:
            return _said("stopped", node.reason if node else "")
        case Standing.SILENT | Standing.HUNG:
            return engine.trouble if engine else "its engine does not answer"
        case Standing.BLANK:
            return "its engine is in no swarm"
        case Standing.IN_SWARM:
            if engine and engine.info and engine.info.state != "active":
                return _said(f"its engine is {engine.info.state} in the swarm", engine.info.error)
            return _as_member(cluster, seen, spec)


def _as_member(cluster: ClusterSpec, seen: SwarmObserved, spec: NodeSpec) -> str:
    member = seen.member(cluster.name, spec.name)
    reason = ""
    if member is None:
        reason = "its engine is in another swarm" if seen.members is not None else ""
    elif member.state != "ready":
        reason = _said(f"{member.state} in the swarm", member.message)
    elif spec.role is Role.MASTER and member.role != "manager":
        reason = "is no manager of the swarm"
    elif member.reachability not in {"", "reachable"}:
        reason = f"{member.reachability} as a manager of the swarm"
    return reason


def _said(what: str, why: str) -> str:
    return f"{what}: {why}" if why else what
