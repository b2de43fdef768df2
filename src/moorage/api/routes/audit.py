"""/v1/audit: every request that meant to change something. Not in Magnum."""

from __future__ import annotations

from moorage.api.answers import Answer, as_json
from moorage.api.context import Asked
from moorage.api.paging import PAGE, described, listing
from moorage.api.routing import Router
from moorage.api.schemas.history import RecordList, record_list
from moorage.services import AuditService


def routes(audit: AuditService) -> Router:
    router = Router(prefix="/v1/audit", tags=["operation"])

    @router.get(
        response_model=RecordList, openapi_extra=described(*PAGE, "all_projects", numbered=True)
    )
    async def list_records(asked: Asked) -> Answer:
        wish = listing(asked, "all_projects", numbered=True)
        found = await audit.list(asked.who, wish.page, all_projects=wish.flag("all_projects"))
        return as_json(record_list(found, wish.following(asked, [record.id for record in found])))

    return router
