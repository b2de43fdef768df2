"""/v1/clusters/{ident}/nodegroups."""

from __future__ import annotations

from moorage.api.answers import Answer, as_json, nothing
from moorage.api.context import Asked
from moorage.api.paging import PAGE, described, listing
from moorage.api.routing import Router
from moorage.api.schemas.common import Patch
from moorage.api.schemas.nodegroup import (
    NodeGroupBody,
    NodeGroupCreate,
    NodeGroupDetailList,
    NodeGroupList,
    nodegroup_body,
    nodegroup_detail_list,
    nodegroup_list,
)
from moorage.services import NodeGroupService


def routes(nodegroups: NodeGroupService) -> Router:
    router = Router(prefix="/v1/clusters/{ident}/nodegroups", tags=["node groups"])
    paged = described(*PAGE, "role")

    @router.post(status_code=202, response_model=NodeGroupBody)
    async def create_nodegroup(asked: Asked, ident: str, body: NodeGroupCreate) -> Answer:
        cluster, group = await nodegroups.create(asked.who, ident, body.wanted())
        asked.target = f"{cluster.uuid}/{group.uuid}"
        return as_json(nodegroup_body(cluster, group, asked.base_url), 202)

    @router.get(response_model=NodeGroupList, openapi_extra=paged)
    async def list_nodegroups(asked: Asked, ident: str) -> Answer:
        wish = listing(asked, "role")
        cluster, found = await nodegroups.list(
            asked.who, ident, wish.page, wish.filters.get("role")
        )
        following = wish.following(asked, [group.uuid for group in found])
        return as_json(nodegroup_list(cluster, found, following))

    @router.get("/detail", response_model=NodeGroupDetailList, openapi_extra=paged)
    async def list_nodegroups_in_detail(asked: Asked, ident: str) -> Answer:
        wish = listing(asked, "role")
        cluster, found = await nodegroups.list(
            asked.who, ident, wish.page, wish.filters.get("role")
        )
        following = wish.following(asked, [group.uuid for group in found])
        return as_json(nodegroup_detail_list(cluster, found, asked.base_url, following))

    @router.get("/{nodegroup}", response_model=NodeGroupBody)
    async def show_nodegroup(asked: Asked, ident: str, nodegroup: str) -> Answer:
        cluster, group = await nodegroups.get(asked.who, ident, nodegroup)
        return as_json(nodegroup_body(cluster, group, asked.base_url))

    @router.patch("/{nodegroup}", status_code=202, response_model=NodeGroupBody)
    async def update_nodegroup(asked: Asked, ident: str, nodegroup: str, body: Patch) -> Answer:
        cluster, group = await nodegroups.update(asked.who, ident, nodegroup, body.operations())
        asked.target = f"{cluster.uuid}/{group.uuid}"
        return as_json(nodegroup_body(cluster, group, asked.base_url), 202)

    @router.delete("/{nodegroup}", status_code=204)
    async def delete_nodegroup(asked: Asked, ident: str, nodegroup: str) -> Answer:
        cluster, group = await nodegroups.delete(asked.who, ident, nodegroup)
        asked.target = f"{cluster.uuid}/{group.uuid}"
        return nothing()

    return router
