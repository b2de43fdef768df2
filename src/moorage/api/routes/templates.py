"""/v1/clustertemplates."""

from __future__ import annotations

from moorage.api.answers import Answer, as_json, created, nothing
from moorage.api.context import Asked
from moorage.api.paging import PAGE, described, listing
from moorage.api.routing import Router
from moorage.api.schemas.common import Patch
from moorage.api.schemas.template import (
    TemplateBody,
    TemplateCreate,
    TemplateList,
    template_body,
    template_list,
)
from moorage.services import TemplateService


def routes(templates: TemplateService) -> Router:
    router = Router(prefix="/v1/clustertemplates", tags=["cluster templates"])
    paged = described(*PAGE, "all_projects")

    @router.post(status_code=201, response_model=TemplateBody)
    async def create_template(asked: Asked, body: TemplateCreate) -> Answer:
        template = await templates.create(asked.who, body.wanted())
        asked.target = template.uuid
        return created(template_body(template, asked.base_url))

    @router.get(response_model=TemplateList, openapi_extra=paged)
    @router.get("/detail", response_model=TemplateList, openapi_extra=paged)
    async def list_templates(asked: Asked) -> Answer:
        wish = listing(asked, "all_projects")
        found = await templates.list(asked.who, wish.page, all_projects=wish.flag("all_projects"))
        following = wish.following(asked, [template.uuid for template in found])
        return as_json(template_list(found, asked.base_url, following))

    @router.get("/{ident}", response_model=TemplateBody)
    async def show_template(asked: Asked, ident: str) -> Answer:
        template = await templates.get(asked.who, ident)
        return as_json(template_body(template, asked.base_url))

    @router.patch("/{ident}", response_model=TemplateBody)
    async def update_template(asked: Asked, ident: str, body: Patch) -> Answer:
        template = await templates.update(asked.who, ident, body.operations())
        asked.target = template.uuid
        return as_json(template_body(template, asked.base_url))

    @router.delete("/{ident}", status_code=204)
    async def delete_template(asked: Asked, ident: str) -> Answer:
        asked.target = (await templates.delete(asked.who, ident)).uuid
        return nothing()

    return router
