"""Quotas and statistics on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NotRequired

from typing_extensions import TypedDict

from moorage.api.schemas.common import Count, Sent, stamp
from moorage.model.quota import Amounts, Quota, Resource
from moorage.services import NewQuota


class QuotaCreate(Sent):
    """`POST /v1/quotas`. `hard_limit` -1: no bound."""

    project_id: str
    resource: str | None = None
    hard_limit: Count | None = None

    def wanted(self) -> NewQuota:
        """Magnum's defaults: clusters, and one of them."""
        limit = 1 if self.hard_limit is None else self.hard_limit
        return NewQuota(self.project_id, self.resource or Resource.CLUSTER, limit)


class QuotaUpdate(Sent):
    """`PATCH /v1/quotas/{project_id}/{resource}`: an object, and no JSON patch.

    The path says whose quota it is, whatever the body says.
    """

    hard_limit: Count
    project_id: str | None = None
    resource: str | None = None


class QuotaBody(TypedDict):
    """`id` and the times are null for a default that nobody has set."""

    id: int | None
    project_id: str
    resource: str
    hard_limit: int
    created_at: str | None
    updated_at: str | None


class QuotaList(TypedDict):
    quotas: list[QuotaBody]
    next: str | None


class StatsBody(TypedDict):
    """What clusters take. Upstream has the first two; the others come with `type=all`."""

    clusters: int
    nodes: int
    vcpus: NotRequired[int]
    memory_mib: NotRequired[int]
    disk_gib: NotRequired[int]


def quota_body(quota: Quota) -> QuotaBody:
    return {
        "id": quota.id or None,
        "project_id": quota.project_id,
        "resource": quota.resource.value,
        "hard_limit": quota.hard_limit,
        "created_at": stamp(quota.created_at),
        "updated_at": stamp(quota.updated_at),
    }


def quota_list(quotas: Iterable[Quota], following: str | None) -> QuotaList:
    return {"quotas": [quota_body(quota) for quota in quotas], "next": following}


def stats_body(used: Amounts, *, everything: bool) -> StatsBody:
    body: StatsBody = {
        "clusters": used.get(Resource.CLUSTER, 0),
        "nodes": used.get(Resource.NODE, 0),
    }
    if everything:
        body["vcpus"] = used.get(Resource.CPU, 0)
        body["memory_mib"] = used.get(Resource.MEMORY, 0)
        body["disk_gib"] = used.get(Resource.DISK, 0)
    return body
