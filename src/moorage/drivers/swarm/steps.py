"""The verbs of a swarm's plans. ENSURE_NODE and DELETE_NODE come from planning.

`id` in a step's detail is a member's identifier in the swarm.
"""

from __future__ import annotations

from collections.abc import Iterable

from moorage.model.node import Role
from moorage.model.plan import Step

START_ENGINE = "start-engine"
"""The engine answers, with certificates of the cluster; `restart=yes` ends one that hangs."""
TRUST = "trust"
"""The node trusts, and shows, what its cluster's authority says; nobody is cut off for it."""
INIT_SWARM = "init-swarm"
"""There is a swarm, and this node is its first manager."""
FORCE_NEW_CLUSTER = "force-new-cluster"
"""This node is the only manager of its swarm, whose other managers are lost."""
JOIN = "join"
AWAIT_MEMBER = "await-member"
"""The node, which is a member and was away, is seen ready by a manager."""
LABEL_NODE = "label-node"
PROMOTE = "promote"
DEMOTE = "demote"
DRAIN = "drain"
"""No task runs on the node any more, or has been given its time."""
ACTIVATE = "activate"
"""What Moorage had drained takes tasks again; with `to`, as far as its tenant lets it."""
ROTATE_TOKENS = "rotate-tokens"
"""What members join with is exchanged, and noted in the swarm: for the `times`-th time."""
LEAVE = "leave"
REMOVE_MEMBER = "remove-member"
"""The swarm's list does not have the member `id` (the step's node), whose engine is gone."""

SECONDS = {START_ENGINE: 60.0, TRUST: 60.0, DRAIN: 60.0, JOIN: 60.0}
SECONDS_ELSE = 45.0


def step(verb: str, node: str, after: Iterable[str] = (), **detail: str) -> Step:
    return Step(
        verb,
        node,
        after=frozenset(after),
        detail=detail,
        timeout=SECONDS.get(verb, SECONDS_ELSE),
    )


def join(node: str, role: Role, after: Iterable[str]) -> Step:
    return step(JOIN, node, after, role="manager" if role is Role.MASTER else "worker")
