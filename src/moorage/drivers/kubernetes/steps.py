"""The verbs of a Kubernetes cluster's plans. ENSURE_NODE and DELETE_NODE come from planning."""

from __future__ import annotations

from collections.abc import Iterable

from moorage.model.plan import Step

START_NODE = "start-node"
"""The node has its files, and runs what needs no API; `restart=yes` ends what runs first.

`etcd` (masters): `found` a cluster where there is no data, run with `data` only, or `wait`;
or go on `alone`, where most members are lost with their disks.
`version`: the release that the node has.
"""
TRUST = "trust"
"""As START_NODE, on a node that runs: it trusts, and shows, what the authority says now."""
ETCD_JOIN = "etcd-join"
"""The master is a voting member of etcd's cluster, and its API server is started."""
ETCD_REMOVE = "etcd-remove"
"""The member `id` (the step's node), which is gone, is on etcd's list no more."""
AWAIT_API = "await-api"
"""The master's API server is ready."""
APPLY = "apply-objects"
"""What every cluster has is there: who may do what."""
JOIN = "join"
"""The node's kubelet and kube-proxy run; a master's controllers and scheduler too.

Of a hosted master's programs, these last alone."""
NOTE = "note-start"
"""What the hosted master's programs were started with (of release `version`) is noted in the
cluster."""
LABEL_NODE = "label-node"
"""The node is there in Kubernetes, with the labels and taints of its group."""
AWAIT_NODE = "await-node"
"""The node is ready, says Kubernetes; waited for `briefly=yes` where that is of little hope."""
BRIEFLY = "briefly"
DRAIN = "drain"
"""No pod is put on the node any more, and those that were there have left, or had their time."""
UNCORDON = "uncordon"
"""What Moorage had drained takes pods again."""
REMOVE_NODE = "remove-node"
"""Kubernetes has no node of that name (the step's node)."""

SECONDS = {START_NODE: 60.0, TRUST: 60.0, AWAIT_API: 90.0, DRAIN: 90.0, ETCD_JOIN: 90.0}
SECONDS_ELSE = 60.0


def step(verb: str, node: str, after: Iterable[str] = (), **detail: str) -> Step:
    return Step(
        verb,
        node,
        after=frozenset(after),
        detail=detail,
        timeout=SECONDS.get(verb, SECONDS_ELSE),
    )
