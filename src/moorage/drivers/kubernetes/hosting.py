"""Where a cluster's control plane is: on nodes of the cluster, or hosted beside them. Pure.

A *hosted* master is a node of the provider that runs etcd and the control plane and nothing
else. Kubernetes has no node of it: no pod runs there, so none can reach what it has in memory.

What must stay true:

- The API server reaches services by their endpoints, for no kube-proxy is beside it; and
  pods by the routes that every node has.
- What the programs were started with is noted in the cluster itself, as on its nodes: here on
  the object that says which objects it has (`access.py`), one annotation for each master.
- A cluster is of one kind for ever: masters of both kinds are never mixed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from moorage.drivers.kubernetes.naming import LAID
from moorage.model.cluster import ClusterSpec
from moorage.model.node import Role

CONTROL_PLANE = "control_plane"
"""The label that says which."""
NODES, HOSTED = "nodes", "hosted"
KINDS = frozenset({NODES, HOSTED})

_NOTE = re.compile(r"(v1\.\d{1,3}\.\d{1,4}(?:[-+][\w.+-]{1,40})?) ([0-9a-f]{16})")


def kind(labels: Mapping[str, str]) -> str:
    """One of KINDS, unless services have let something else pass."""
    return labels.get(CONTROL_PLANE, NODES)


def is_hosted(cluster: ClusterSpec) -> bool:
    return kind(cluster.labels) == HOSTED


def runs_pods(cluster: ClusterSpec, role: Role) -> bool:
    """Whether nodes of the role are nodes of Kubernetes."""
    return role is Role.WORKER or not is_hosted(cluster)


def annotation(name: str) -> str:
    """Where the master's note is."""
    return f"{LAID}.{name}"


def note(version: str, digest: str) -> str:
    """What is noted of a master: its release, and what its programs were started with."""
    return f"{version} {digest}"


def noted_version(note: str) -> str:
    """The release of a note; empty where there is none, or it is none of ours."""
    found = _NOTE.fullmatch(note)
    return found[1] if found else ""


def notes(annotations: Mapping[str, str]) -> dict[str, str]:
    """The notes, by the master's name."""
    first = annotation("")
    return {
        key.removeprefix(first): value
        for key, value in annotations.items()
        if key.startswith(first)
    }
