"""/v1/stats: what a project's clusters take."""

from __future__ import annotations

from moorage.api.answers import Answer, as_json
from moorage.api.context import Asked
from moorage.api.errors import shown
from moorage.api.paging import described, parameters
from moorage.api.routing import Router
from moorage.api.schemas.quota import StatsBody, stats_body
from moorage.model.caller import Permission
from moorage.model.errors import Invalid
from moorage.services import QuotaService

TYPES = ("cluster", "all")


def routes(quotas: QuotaService) -> Router:
    router = Router(prefix="/v1/stats", tags=["quotas"])

    @router.get(response_model=StatsBody, openapi_extra=described("project_id", "type"))
    async def show_stats(asked: Asked) -> Answer:
        query = parameters(asked, "project_id", "type")
        kind = query.get("type", "cluster").lower()
        if kind not in TYPES:
            raise Invalid(f"type must be {' or '.join(TYPES)}, not {shown(kind)}.", field="type")
        project = query.get("project_id") or None
        if project is None and asked.who.permission < Permission.ADMIN:
            project = asked.who.project_id
        used = await quotas.stats(asked.who, project)
        return as_json(stats_body(used, everything=kind == "all"))

    return router
