"""The labels, taints and annotations of a node in Kubernetes: what is wanted against what is there.

A tenant's own are left alone: what Moorage gave, it notes in annotations, and only that it
takes away again. Pure.
"""

from __future__ import annotations

from typing import Any

from moorage.clients.kubernetes_wire import NodeObject
from moorage.drivers.kubernetes.naming import OUR_TAINTS, OURS, Marks


def are_marked(there: NodeObject, wanted: Marks) -> bool:
    """Whether the node has all that its group gives it, and nothing that it gave before."""
    held = {(t.key, t.effect): t.value for t in there.spec.taints}
    given = {(t.key, t.effect): t.value for t in wanted.taints}
    return (
        wanted.labels.items() <= there.metadata.labels.items()
        and given.items() <= held.items()
        and wanted.annotations.items() <= there.metadata.annotations.items()
    )


def change(there: NodeObject, wanted: Marks, noted: dict[str, str], pods: str) -> dict[str, Any]:
    """A merge patch after which it is marked so. `noted`: annotations more; `pods`: their CIDR,
    which is written once."""
    former = set(there.metadata.annotations.get(OURS, "").split()) - wanted.labels.keys()
    labels: dict[str, str | None] = {**dict.fromkeys(former), **wanted.labels}
    ours = set(there.metadata.annotations.get(OUR_TAINTS, "").split())
    given = {f"{t.key}:{t.effect}" for t in wanted.taints}
    kept = [
        t.model_dump(exclude_defaults=True)
        for t in there.spec.taints
        if f"{t.key}:{t.effect}" not in ours | given
    ]
    ours_now = [
        {"key": t.key, "effect": t.effect, **({"value": t.value} if t.value else {})}
        for t in wanted.taints
    ]
    spec: dict[str, Any] = {"taints": [*kept, *ours_now] or None}
    if not there.spec.pod_cidr:
        spec |= {"podCIDR": pods, "podCIDRs": [pods]}
    metadata: dict[str, Any] = {
        "labels": labels,
        "annotations": {**wanted.annotations, **noted},
        # Taints are one value: whoever changed them meanwhile must not be overwritten.
        "resourceVersion": there.metadata.resource_version,
    }
    return {"metadata": metadata, "spec": spec}
