"""/v1/catalogue: what providers offer by name. Not in Magnum, which asks Nova and its like."""

from __future__ import annotations

from moorage.api.answers import Answer, as_json, nothing
from moorage.api.context import Asked
from moorage.api.paging import described, parameters
from moorage.api.routing import Router
from moorage.api.schemas.offer import OfferBody, OfferCreate, OfferList, offer_body, offer_list
from moorage.services import Catalogue


def routes(catalogue: Catalogue) -> Router:
    router = Router(prefix="/v1/catalogue", tags=["catalogue"])

    @router.post(status_code=201, response_model=OfferBody)
    async def add_offer(asked: Asked, body: OfferCreate) -> Answer:
        offer = await catalogue.add(asked.who, body.wanted())
        asked.target = f"{offer.provider}/{offer.kind}/{offer.name}"
        return as_json(offer_body(offer), 201)

    @router.get(response_model=OfferList, openapi_extra=described("kind", "provider"))
    async def list_offers(asked: Asked) -> Answer:
        query = parameters(asked, "kind", "provider")
        found = await catalogue.list(asked.who, query.get("kind"), query.get("provider"))
        return as_json(offer_list(found))

    @router.delete("/{kind}/{name}", status_code=204, openapi_extra=described("provider"))
    async def remove_offer(asked: Asked, kind: str, name: str) -> Answer:
        query = parameters(asked, "provider")
        offer = await catalogue.remove(asked.who, kind, name, query.get("provider"))
        asked.target = f"{offer.provider}/{offer.kind}/{offer.name}"
        return nothing()

    return router
