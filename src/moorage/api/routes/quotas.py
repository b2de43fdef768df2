"""/v1/quotas: what a project may have."""

from __future__ import annotations

from moorage.api.answers import Answer, as_json, nothing
from moorage.api.context import Asked
from moorage.api.paging import PAGE, described, listing
from moorage.api.routing import Router
from moorage.api.schemas.quota import (
    QuotaBody,
    QuotaCreate,
    QuotaList,
    QuotaUpdate,
    quota_body,
    quota_list,
)
from moorage.services import NewQuota, QuotaService


def routes(quotas: QuotaService) -> Router:
    router = Router(prefix="/v1/quotas", tags=["quotas"])
    one = "/{project_id}/{resource}"

    @router.post(status_code=201, response_model=QuotaBody)
    async def create_quota(asked: Asked, body: QuotaCreate) -> Answer:
        quota = await quotas.create(asked.who, body.wanted())
        asked.target = f"{quota.project_id}/{quota.resource}"
        return as_json(quota_body(quota), 201)

    @router.get(
        response_model=QuotaList,
        openapi_extra=described(*PAGE, "all_tenants", "all_projects", numbered=True),
    )
    async def list_quotas(asked: Asked) -> Answer:
        wish = listing(asked, "all_tenants", "all_projects", numbered=True)
        every = wish.flag("all_tenants", "all_projects")
        found = await quotas.list(asked.who, wish.page, all_projects=every)
        return as_json(quota_list(found, wish.following(asked, [quota.id for quota in found])))

    @router.get(one, response_model=QuotaBody)
    async def show_quota(asked: Asked, project_id: str, resource: str) -> Answer:
        return as_json(quota_body(await quotas.get(asked.who, project_id, resource)))

    @router.patch(one, status_code=202, response_model=QuotaBody)
    async def update_quota(
        asked: Asked, project_id: str, resource: str, body: QuotaUpdate
    ) -> Answer:
        wanted = NewQuota(project_id, resource, body.hard_limit)
        quota = await quotas.update(asked.who, wanted)
        asked.target = f"{quota.project_id}/{quota.resource}"
        return as_json(quota_body(quota), 202)

    @router.delete(one, status_code=204)
    async def delete_quota(asked: Asked, project_id: str, resource: str) -> Answer:
        await quotas.delete(asked.who, project_id, resource)
        asked.target = f"{project_id}/{resource}"
        return nothing()

    return router
