"""/v1/clustertemplates."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.context import caller_of, context_of
from moorage.api.paging import listing, next_link
from moorage.api.routes.answers import as_json, nothing
from moorage.api.schemas.common import Patch
from moorage.api.schemas.template import (
    TemplateBody,
    TemplateCreate,
    TemplateList,
    template_json,
    template_list_json,
)
from moorage.services import TemplateService


def routes(templates: TemplateService) -> APIRouter:
    router = APIRouter(prefix="/v1/clustertemplates", tags=["cluster templates"])

    @router.post("", status_code=201, response_model=TemplateBody)
    async def create_template(request: Request, body: TemplateCreate) -> Response:
        template = await templates.create(caller_of(request), body.wanted())
        return as_json(template_json(template, context_of(request).base_url), 201)

    @router.get("", response_model=TemplateList)
    @router.get("/detail", response_model=TemplateList)
    async def list_templates(request: Request) -> Response:
        page, every = listing(request)
        found = await templates.list(caller_of(request), page, all_projects=every)
        last = found[-1].uuid if found else ""
        following = next_link(request, page, len(found), last, every=every)
        return as_json(template_list_json(found, context_of(request).base_url, following))

    @router.get("/{ident}", response_model=TemplateBody)
    async def show_template(request: Request, ident: str) -> Response:
        template = await templates.get(caller_of(request), ident)
        return as_json(template_json(template, context_of(request).base_url))

    @router.patch("/{ident}", response_model=TemplateBody)
    async def update_template(request: Request, ident: str, body: Patch) -> Response:
        template = await templates.update(caller_of(request), ident, body.operations())
        return as_json(template_json(template, context_of(request).base_url))

    @router.delete("/{ident}", status_code=204)
    async def delete_template(request: Request, ident: str) -> Response:
        await templates.delete(caller_of(request), ident)
        return nothing()

    return router
