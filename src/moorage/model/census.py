"""How many of what there is, in the whole cloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Alike:
    """Clusters of one status, COE and health, and the nodes that are wanted for them."""

    status: str
    coe: str
    health: str
    clusters: int
    nodes: int


@dataclass(frozen=True, slots=True)
class Census:
    """What a glance at the store shows. `due`: clusters that wait for a conductor."""

    groups: Sequence[Alike]
    due: int
    oldest_due_seconds: float
