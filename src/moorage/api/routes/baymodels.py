"""/v1/baymodels: cluster templates under their old name, up to version 1.10."""

from __future__ import annotations

from moorage.api.answers import Answer, as_json, created, nothing
from moorage.api.context import Asked
from moorage.api.paging import PAGE, described, listing
from moorage.api.routing import Router
from moorage.api.schemas.baymodel import (
    BaymodelBody,
    BaymodelCreate,
    BaymodelList,
    baymodel_body,
    baymodel_list,
)
from moorage.api.schemas.common import Patch
from moorage.services import TemplateService


def routes(templates: TemplateService) -> Router:
    router = Router(prefix="/v1/baymodels", tags=["baymodels"], deprecated=True)
    paged = described(*PAGE, "all_projects")

    @router.post(status_code=201, response_model=BaymodelBody)
    async def create_baymodel(asked: Asked, body: BaymodelCreate) -> Answer:
        template = await templates.create(asked.who, body.wanted())
        asked.target = template.uuid
        return created(baymodel_body(template, asked.base_url))

    @router.get(response_model=BaymodelList, openapi_extra=paged)
    @router.get("/detail", response_model=BaymodelList, openapi_extra=paged)
    async def list_baymodels(asked: Asked) -> Answer:
        wish = listing(asked, "all_projects")
        found = await templates.list(asked.who, wish.page, all_projects=wish.flag("all_projects"))
        following = wish.following(asked, [template.uuid for template in found])
        return as_json(baymodel_list(found, asked.base_url, following))

    @router.get("/{ident}", response_model=BaymodelBody)
    async def show_baymodel(asked: Asked, ident: str) -> Answer:
        template = await templates.get(asked.who, ident)
        return as_json(baymodel_body(template, asked.base_url))

    @router.patch("/{ident}", response_model=BaymodelBody)
    async def update_baymodel(asked: Asked, ident: str, body: Patch) -> Answer:
        template = await templates.update(asked.who, ident, body.operations())
        asked.target = template.uuid
        return as_json(baymodel_body(template, asked.base_url))

    @router.delete("/{ident}", status_code=204)
    async def delete_baymodel(asked: Asked, ident: str) -> Answer:
        asked.target = (await templates.delete(asked.who, ident)).uuid
        return nothing()

    return router
