"""/v1/clusters/{ident}/events: the story of a cluster. Not in Magnum."""

from __future__ import annotations

from moorage.api.answers import Answer, as_json
from moorage.api.context import Asked
from moorage.api.paging import PAGE, described, listing
from moorage.api.routing import Router
from moorage.api.schemas.history import EventList, event_list
from moorage.services import EventService


def routes(events: EventService) -> Router:
    router = Router(prefix="/v1/clusters/{ident}/events", tags=["clusters"])

    @router.get(response_model=EventList, openapi_extra=described(*PAGE, numbered=True))
    async def list_events(asked: Asked, ident: str) -> Answer:
        wish = listing(asked, numbered=True)
        found = await events.list(asked.who, ident, wish.page)
        return as_json(event_list(found, wish.following(asked, [event.id for event in found])))

    return router
