"""What is left of clusters, on the wire."""

from __future__ import annotations

from collections.abc import Iterable

from typing_extensions import TypedDict

from moorage.api.schemas.history import exact
from moorage.model.cluster import Cluster
from moorage.model.orphan import LeftNode, Orphan, wanted_nodes


class LeftNodeBody(TypedDict):
    """A node that may be there still. `state`: as it was seen last, or unknown."""

    name: str
    address: str | None
    state: str


class OrphanBody(TypedDict):
    """What may remain of a cluster that has no row.

    `traces`: what its provider sees now; null where it can't be asked, or not from here.
    `home`: the place where it is, and where alone it can be removed, as `machine/install`; null
    where it is not bound to one. Those that were not abandoned, but came to light otherwise,
    have no name, owner, nodes or reason.
    """

    uuid: str
    provider: str
    home: str | None
    traces: list[str] | None
    name: str | None
    project_id: str | None
    user_id: str | None
    coe: str | None
    nodes: list[LeftNodeBody]
    api_address: str | None
    reason: str | None
    abandoned_by: str | None
    abandoned_at: str | None


class OrphanList(TypedDict):
    orphans: list[OrphanBody]


class ForcedBody(TypedDict):
    """The answer to a delete by force: what is left in the end, if it can't be removed."""

    uuid: str
    provider: str
    nodes: list[LeftNodeBody]
    api_address: str | None
    detail: str


def orphan_body(orphan: Orphan) -> OrphanBody:
    left = orphan.abandoned
    return {
        "uuid": orphan.uuid,
        "provider": orphan.provider,
        "home": orphan.home or None,
        "traces": None if orphan.traces is None else list(orphan.traces),
        "name": left.name if left else None,
        "project_id": left.project_id if left else None,
        "user_id": left.user_id if left else None,
        "coe": left.coe if left else None,
        "nodes": _nodes(left.nodes) if left else [],
        "api_address": left.api_address if left else None,
        "reason": left.reason if left else None,
        "abandoned_by": left.forced_by if left else None,
        "abandoned_at": exact(left.at) if left else None,
    }


def orphan_list(orphans: Iterable[Orphan]) -> OrphanList:
    return {"orphans": [orphan_body(orphan) for orphan in orphans]}


def forced_body(cluster: Cluster) -> ForcedBody:
    return {
        "uuid": cluster.uuid,
        "provider": cluster.provider,
        "nodes": _nodes(wanted_nodes(cluster)),
        "api_address": cluster.api_address,
        "detail": (
            "It is being deleted. If its provider can't, it is given up after three tries, and "
            f"what remains is found in /v1/orphans under {cluster.uuid}."
        ),
    }


def _nodes(nodes: Iterable[LeftNode]) -> list[LeftNodeBody]:
    return [{"name": n.name, "address": n.address, "state": n.state} for n in nodes]
