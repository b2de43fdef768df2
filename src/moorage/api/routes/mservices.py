"""/v1/mservices: the processes of Moorage."""

from __future__ import annotations

from moorage.api.answers import Answer, as_json
from moorage.api.context import Asked
from moorage.api.paging import PAGE, described, listing
from moorage.api.routing import Router
from moorage.api.schemas.history import ServiceList, service_list
from moorage.services import Heartbeats

SORT_KEYS = ("id", "host", "binary", "state", "report_count")


def routes(heartbeats: Heartbeats) -> Router:
    router = Router(prefix="/v1/mservices", tags=["operation"])

    paged = described(*PAGE, numbered=True)

    @router.get(response_model=ServiceList, openapi_extra=paged)
    async def list_services(asked: Asked) -> Answer:
        wish = listing(asked, numbered=True)
        found = wish.cut(await heartbeats.list(asked.who), SORT_KEYS)
        following = wish.following(asked, [service.id for service in found])
        return as_json(service_list(found, following))

    return router
