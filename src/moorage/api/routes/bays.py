"""/v1/bays: clusters under their old name, up to version 1.10.

In version 1.1 a bay is answered whole when it is made (201) and changed (200), and from
1.2 on its uuid alone (202). Either way it is the conductor that makes it, afterwards.
"""

from __future__ import annotations

from moorage.api.answers import Answer, as_json, created, nothing
from moorage.api.context import Asked
from moorage.api.paging import PAGE, described, listing
from moorage.api.routes.clusters import rolls_back
from moorage.api.routing import Router
from moorage.api.schemas.bay import (
    BayBody,
    BayCreate,
    BayDetailList,
    BayList,
    bay_body,
    bay_detail_list,
    bay_list,
)
from moorage.api.schemas.cluster import ClusterAccepted, accepted
from moorage.api.schemas.common import Patch
from moorage.api.versions import ACCEPTS_AT_ONCE
from moorage.model.errors import Invalid, NotFound
from moorage.services import ClusterService


def routes(clusters: ClusterService) -> Router:
    router = Router(prefix="/v1/bays", tags=["bays"], deprecated=True)
    paged = described(*PAGE, "all_projects")

    @router.post(
        status_code=202, response_model=ClusterAccepted, responses={201: {"model": BayBody}}
    )
    async def create_bay(asked: Asked, body: BayCreate) -> Answer:
        try:
            # Bays have a node at least, in every version.
            cluster = await clusters.create(asked.who, body.wanted(), allow_zero=False)
        except NotFound as error:  # not what the URL names, but a wrong field
            raise Invalid(error.reason, field="baymodel_id") from None
        asked.target = cluster.uuid
        if asked.minor < ACCEPTS_AT_ONCE:
            return created(bay_body(cluster, asked.base_url))
        return as_json(accepted(cluster), 202)

    @router.get(response_model=BayList, openapi_extra=paged)
    async def list_bays(asked: Asked) -> Answer:
        wish = listing(asked, "all_projects")
        found = await clusters.list(asked.who, wish.page, all_projects=wish.flag("all_projects"))
        following = wish.following(asked, [cluster.uuid for cluster in found])
        return as_json(bay_list(found, asked.base_url, following))

    @router.get("/detail", response_model=BayDetailList, openapi_extra=paged)
    async def list_bays_in_detail(asked: Asked) -> Answer:
        wish = listing(asked, "all_projects")
        found = await clusters.list(asked.who, wish.page, all_projects=wish.flag("all_projects"))
        following = wish.following(asked, [cluster.uuid for cluster in found])
        return as_json(bay_detail_list(found, asked.base_url, following))

    @router.get("/{ident}", response_model=BayBody)
    async def show_bay(asked: Asked, ident: str) -> Answer:
        cluster = await clusters.get(asked.who, ident)
        return as_json(bay_body(cluster, asked.base_url))

    @router.patch(
        "/{ident}",
        status_code=202,
        response_model=ClusterAccepted,
        responses={200: {"model": BayBody}},
        openapi_extra=described("rollback"),
    )
    async def update_bay(asked: Asked, ident: str, body: Patch) -> Answer:
        cluster = await clusters.update(
            asked.who, ident, body.operations(), allow_zero=False, rollback=rolls_back(asked)
        )
        asked.target = cluster.uuid
        if asked.minor < ACCEPTS_AT_ONCE:
            return as_json(bay_body(cluster, asked.base_url))
        return as_json(accepted(cluster), 202)

    @router.delete("/{ident}", status_code=204)
    async def delete_bay(asked: Asked, ident: str) -> Answer:
        asked.target = (await clusters.delete(asked.who, ident)).uuid
        return nothing()

    return router
