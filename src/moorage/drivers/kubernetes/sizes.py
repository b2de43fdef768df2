"""What a node of Kubernetes takes before its tenant runs anything on it. Pure.

Measured with 1.20.2 (docs/kubernetes.md, docs/performance.md), with room to grow: an API
server's memory grows with what is kept, etcd's with its history. A worker's pods come on top.
"""

from __future__ import annotations

from collections.abc import Mapping

from moorage.drivers.kubernetes.hosting import HOSTED, kind
from moorage.model.node import Least, Role

MASTER = Least(memory_mib=900, pids=256)
HOSTED_MASTER = Least(memory_mib=600, pids=192)
WORKER = Least(memory_mib=300, pids=128)


def least(role: Role, labels: Mapping[str, str]) -> Least:
    if role is Role.WORKER:
        return WORKER
    return HOSTED_MASTER if kind(labels) == HOSTED else MASTER
