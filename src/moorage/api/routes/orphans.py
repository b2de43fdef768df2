"""/v1/orphans: what is there, or may be, of clusters that have no row. Not in Magnum."""

from __future__ import annotations

from moorage.api.answers import Answer, as_json, nothing
from moorage.api.context import Asked
from moorage.api.paging import described, flag, parameters
from moorage.api.routing import Router
from moorage.api.schemas.orphan import OrphanList, orphan_list
from moorage.services import OrphanService


def routes(orphans: OrphanService) -> Router:
    router = Router(prefix="/v1/orphans", tags=["operation"])

    @router.get(response_model=OrphanList)
    async def list_orphans(asked: Asked) -> Answer:
        parameters(asked)
        return as_json(orphan_list(await orphans.list(asked.who)))

    @router.delete("/{orphan}", status_code=204, openapi_extra=described("forget"))
    async def remove_orphan(asked: Asked, orphan: str) -> Answer:
        query = parameters(asked, "forget")
        await orphans.remove(asked.who, orphan, forget=flag(query.get("forget", "false"), "forget"))
        asked.target = orphan
        return nothing()

    return router
