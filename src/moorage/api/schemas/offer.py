"""The catalogue on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typing_extensions import TypedDict

from moorage.api.schemas.common import Sent
from moorage.model.offer import Offer
from moorage.services import NewOffer


class OfferCreate(Sent):
    """`POST /v1/catalogue`. `kind`: flavor, image, keypair, network or subnet.

    `detail` of a flavor: `vcpus`, `memory_mib`, `disk_gib` and maybe `pids`.
    """

    kind: str
    name: str
    provider: str | None = None
    detail: dict[str, Any] | None = None

    def wanted(self) -> NewOffer:
        return NewOffer(self.kind, self.name, self.provider, self.detail or {})


class OfferBody(TypedDict):
    """What a provider offers under a name. `builtin`: it comes with the provider, and stays."""

    provider: str
    kind: str
    name: str
    detail: dict[str, int | str]
    builtin: bool


class OfferList(TypedDict):
    catalogue: list[OfferBody]


def offer_body(offer: Offer) -> OfferBody:
    return {
        "provider": offer.provider,
        "kind": offer.kind.value,
        "name": offer.name,
        "detail": dict(offer.detail),
        "builtin": offer.builtin,
    }


def offer_list(offers: Iterable[Offer]) -> OfferList:
    return {"catalogue": [offer_body(offer) for offer in offers]}
