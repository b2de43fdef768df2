"""/v1/clusters."""

from __future__ import annotations

from moorage.api.answers import Answer, as_json, nothing
from moorage.api.context import Asked, Context
from moorage.api.paging import PAGE, described, flag, listing, parameters
from moorage.api.routing import Router
from moorage.api.schemas.cluster import (
    ClusterAccepted,
    ClusterBody,
    ClusterCreate,
    ClusterDetailList,
    ClusterList,
    accepted,
    cluster_body,
    cluster_detail_list,
    cluster_list,
)
from moorage.api.schemas.common import Patch
from moorage.api.schemas.orphan import ForcedBody, forced_body
from moorage.api.versions import ALLOWS_ZERO_NODES, ROLLS_BACK
from moorage.model.errors import Invalid, NotFound
from moorage.services import ClusterService


def routes(clusters: ClusterService) -> Router:
    router = Router(prefix="/v1/clusters", tags=["clusters"])
    paged = described(*PAGE, "all_projects")

    @router.post(status_code=202, response_model=ClusterAccepted)
    async def create_cluster(asked: Asked, body: ClusterCreate) -> Answer:
        try:
            cluster = await clusters.create(asked.who, body.wanted(), allow_zero=allows_zero(asked))
        except NotFound as error:  # the template: not what the URL names, but a wrong field
            raise Invalid(error.reason, field="cluster_template_id") from None
        asked.target = cluster.uuid
        return as_json(accepted(cluster), 202)

    @router.get(response_model=ClusterList, openapi_extra=paged)
    async def list_clusters(asked: Asked) -> Answer:
        wish = listing(asked, "all_projects")
        found = await clusters.list(asked.who, wish.page, all_projects=wish.flag("all_projects"))
        following = wish.following(asked, [cluster.uuid for cluster in found])
        return as_json(cluster_list(found, asked.base_url, asked.minor, following))

    @router.get("/detail", response_model=ClusterDetailList, openapi_extra=paged)
    async def list_clusters_in_detail(asked: Asked) -> Answer:
        wish = listing(asked, "all_projects")
        found = await clusters.list(asked.who, wish.page, all_projects=wish.flag("all_projects"))
        following = wish.following(asked, [cluster.uuid for cluster in found])
        detailed = zip(found, await clusters.labels(found), strict=True)
        return as_json(cluster_detail_list(detailed, asked.base_url, asked.minor, following))

    @router.get("/{ident}", response_model=ClusterBody)
    async def show_cluster(asked: Asked, ident: str) -> Answer:
        cluster = await clusters.get(asked.who, ident)
        (labels,) = await clusters.labels([cluster])
        return as_json(cluster_body(cluster, labels, asked.base_url, asked.minor))

    @router.patch(
        "/{ident}",
        status_code=202,
        response_model=ClusterAccepted,
        openapi_extra=described("rollback"),
    )
    async def update_cluster(asked: Asked, ident: str, body: Patch) -> Answer:
        cluster = await clusters.update(
            asked.who,
            ident,
            body.operations(),
            allow_zero=allows_zero(asked),
            rollback=rolls_back(asked),
        )
        asked.target = cluster.uuid
        return as_json(accepted(cluster), 202)

    @router.delete(
        "/{ident}",
        status_code=204,
        responses={202: {"model": ForcedBody}},
        openapi_extra=described("force"),
    )
    async def delete_cluster(asked: Asked, ident: str) -> Answer:
        query = parameters(asked, "force")
        force = flag(query.get("force", "false"), "force")
        cluster = await clusters.delete(asked.who, ident, force=force)
        asked.target = cluster.uuid
        return as_json(forced_body(cluster), 202) if force else nothing()

    return router


def allows_zero(asked: Context) -> bool:
    return asked.minor >= ALLOWS_ZERO_NODES


def rolls_back(asked: Context) -> bool:
    """What the query says of it: `PATCH /v1/clusters/one?rollback=True`. Raises Invalid."""
    query = parameters(asked, "rollback")
    if "rollback" in query and asked.minor < ROLLS_BACK:
        raise Invalid(f"There is no rollback before version 1.{ROLLS_BACK}.", field="rollback")
    return flag(query.get("rollback", "false"), "rollback")
