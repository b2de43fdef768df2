"""/v1/clusters."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.context import caller_of, context_of
from moorage.api.paging import listing, next_link
from moorage.api.routes.answers import as_json, nothing
from moorage.api.schemas.cluster import (
    ClusterAccepted,
    ClusterBody,
    ClusterCreate,
    ClusterDetailList,
    ClusterList,
    accepted_json,
    cluster_detail_list_json,
    cluster_json,
    cluster_list_json,
)
from moorage.api.schemas.common import Patch
from moorage.api.versions import ALLOWS_ZERO_NODES
from moorage.model.errors import Invalid, NotFound
from moorage.services import ClusterService


def routes(clusters: ClusterService) -> APIRouter:
    router = APIRouter(prefix="/v1/clusters", tags=["clusters"])

    @router.post("", status_code=202, response_model=ClusterAccepted)
    async def create_cluster(request: Request, body: ClusterCreate) -> Response:
        try:
            cluster = await clusters.create(
                caller_of(request), body.wanted(), allow_zero=_allows_zero(request)
            )
        except NotFound as error:  # the template: not what the URL names, but a wrong field
            raise Invalid(error.reason, field="cluster_template_id") from None
        return as_json(accepted_json(cluster), 202)

    @router.get("", response_model=ClusterList)
    async def list_clusters(request: Request) -> Response:
        page, every = listing(request)
        found = await clusters.list(caller_of(request), page, all_projects=every)
        last = found[-1].uuid if found else ""
        following = next_link(request, page, len(found), last, every=every)
        context = context_of(request)
        return as_json(cluster_list_json(found, context.base_url, context.minor, following))

    @router.get("/detail", response_model=ClusterDetailList)
    async def list_clusters_in_detail(request: Request) -> Response:
        page, every = listing(request)
        found = await clusters.list(caller_of(request), page, all_projects=every)
        last = found[-1].uuid if found else ""
        following = next_link(request, page, len(found), last, every=every)
        detailed = [(cluster, await clusters.labels(cluster)) for cluster in found]
        context = context_of(request)
        return as_json(
            cluster_detail_list_json(detailed, context.base_url, context.minor, following)
        )

    @router.get("/{ident}", response_model=ClusterBody)
    async def show_cluster(request: Request, ident: str) -> Response:
        cluster = await clusters.get(caller_of(request), ident)
        labels = await clusters.labels(cluster)
        context = context_of(request)
        return as_json(cluster_json(cluster, labels, context.base_url, context.minor))

    @router.patch("/{ident}", status_code=202, response_model=ClusterAccepted)
    async def update_cluster(request: Request, ident: str, body: Patch) -> Response:
        # magnumclient adds ?rollback=True when told to; there is no half-made update
        # to roll back here: the conductor goes on until it is made.
        cluster = await clusters.update(
            caller_of(request), ident, body.operations(), allow_zero=_allows_zero(request)
        )
        return as_json(accepted_json(cluster), 202)

    @router.delete("/{ident}", status_code=204)
    async def delete_cluster(request: Request, ident: str) -> Response:
        await clusters.delete(caller_of(request), ident)
        return nothing()

    return router


def _allows_zero(request: Request) -> bool:
    return context_of(request).minor >= ALLOWS_ZERO_NODES
