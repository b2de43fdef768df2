"""What may be there of a cluster that the store knows no more, or never knew."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moorage.model.cluster import Cluster


@dataclass(frozen=True, slots=True)
class LeftNode:
    """A node that may be there still. `state` is what was seen last; `unknown` if nothing was."""

    name: str
    address: str | None = None
    state: str = "unknown"


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A cluster that an admin had deleted by force, and that could not be deleted whole.

    `traces` are what its provider saw of it last, in words; `reason` is why it could not be
    removed; `forced_by` is the admin's name. `home` is where it is, as `machine/install`; empty
    where that is anywhere, or the only place that there is.
    """

    uuid: str
    name: str
    project_id: str
    user_id: str
    coe: str
    provider: str
    nodes: tuple[LeftNode, ...]
    api_address: str | None
    traces: tuple[str, ...]
    reason: str
    forced_by: str
    at: datetime.datetime
    home: str = ""

    @classmethod
    def of(
        cls,
        cluster: Cluster,
        nodes: Iterable[LeftNode],
        reason: str,
        at: datetime.datetime,
        *,
        traces: Sequence[str] = (),
        home: str = "",
    ) -> Abandoned:
        """The record of a cluster whose row ends `at` that moment."""
        return cls(
            uuid=cluster.uuid,
            name=cluster.name,
            project_id=cluster.project_id,
            user_id=cluster.user_id,
            coe=cluster.coe,
            provider=cluster.provider,
            nodes=tuple(nodes),
            api_address=cluster.api_address,
            traces=tuple(traces),
            reason=reason,
            forced_by=cluster.forced_by or "",
            at=at,
            home=home,
        )

    @property
    def sentence(self) -> str:
        """The end of its story."""
        names = ", ".join(node.name for node in self.nodes) or "no node"
        return f"abandoned: may remain with {self.provider}: {names}; {self.reason}"


@dataclass(frozen=True, slots=True)
class Orphan:
    """Something of a cluster that has no row: abandoned, or made after the backup that came back.

    `traces` are what its provider sees now: none where all is gone by now, None where it
    can't be asked. `home` is the place that it is bound to, as in Abandoned.
    """

    uuid: str
    provider: str
    traces: tuple[str, ...] | None
    abandoned: Abandoned | None = None
    home: str = ""


def wanted_nodes(cluster: Cluster) -> tuple[LeftNode, ...]:
    """The nodes of a cluster as its row has them."""
    return tuple(
        LeftNode(name, group.addresses.get(name))
        for group in cluster.groups
        for name in sorted({*group.nodes, *group.addresses})
    )
