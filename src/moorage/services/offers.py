"""What a provider offers by name: flavors, images, key pairs, networks and subnets.

Where there is no Nova, Glance or Neutron to ask, these names stand in a catalogue: the
built-in entries below, and those that admins add. A request that names something else is
refused with the names that there are.

Images, key pairs and networks of provider `local`: a node runs this machine's own system
(`host`), nobody logs in to it by SSH (`default` stands for that), and it reaches the
outside through this machine (`public`) from a network of its cluster's own (`private`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from moorage.model.errors import Invalid
from moorage.model.node import Flavor, Least
from moorage.model.offer import Offer, OfferKind
from moorage.services import rules

FIGURES = {"vcpus": 256, "memory_mib": 4 << 20, "disk_gib": 64 << 10, "pids": 4 << 20}
"""What a flavor holds, and the most of each."""
BUILT_IN = (
    (OfferKind.IMAGE, "host"),
    (OfferKind.KEYPAIR, "default"),
    (OfferKind.NETWORK, "public"),
    (OfferKind.NETWORK, "private"),
    (OfferKind.SUBNET, "private-subnet"),
)
FIELDS: Mapping[str, OfferKind] = {
    "image_id": OfferKind.IMAGE,
    "keypair_id": OfferKind.KEYPAIR,
    "keypair": OfferKind.KEYPAIR,
    "external_network_id": OfferKind.NETWORK,
    "fixed_network": OfferKind.NETWORK,
    "fixed_subnet": OfferKind.SUBNET,
}
"""The API's fields that name an offer."""
NOUNS = {OfferKind.KEYPAIR: "key pair"}


def built_in(provider: str, flavors: Iterable[Flavor]) -> list[Offer]:
    """What every provider offers from the start, the first flavor being the default."""
    sizes = [
        Offer(
            provider,
            OfferKind.FLAVOR,
            flavor.name,
            {name: getattr(flavor, name) for name in FIGURES},
            builtin=True,
        )
        for flavor in flavors
    ]
    return [*sizes, *(Offer(provider, kind, name, builtin=True) for kind, name in BUILT_IN)]


class Shelf:
    """The offers of one provider. What is not there is Invalid, with the names that are."""

    def __init__(self, provider: str, offers: Iterable[Offer]) -> None:
        self.provider = provider
        self._offers: dict[OfferKind, dict[str, Offer]] = {kind: {} for kind in OfferKind}
        for offer in offers:
            if offer.provider == provider:
                self._offers[offer.kind].setdefault(offer.name, offer)

    def default_flavor(self, least: Least) -> str:
        """The first that has so much; the first of all where none has."""
        sizes = self.flavors()
        return next((name for name, each in sizes.items() if least.fits(each)), next(iter(sizes)))

    def flavor(self, name: str, field: str = "flavor_id") -> Flavor:
        return flavor_of(self._one(OfferKind.FLAVOR, name, field))

    def flavors(self) -> dict[str, Flavor]:
        return {name: flavor_of(offer) for name, offer in self._offers[OfferKind.FLAVOR].items()}

    def check(self, options: Mapping[str, object]) -> None:
        """Raises Invalid for the first of the API's fields that names what is not here."""
        for field, value in options.items():
            if field in FIELDS and value is not None:
                self._one(FIELDS[field], str(value), field)

    def _one(self, kind: OfferKind, name: str, field: str) -> Offer:
        there = self._offers[kind]
        if name not in there:
            noun = NOUNS.get(kind, kind.value)
            known = ", ".join(sorted(there)) or "none"
            raise Invalid(
                f"There is no {noun} {rules.shown(name)}; provider {self.provider} has: {known}.",
                field=field,
            )
        return there[name]


def flavor_of(offer: Offer) -> Flavor:
    return Flavor(offer.name, **{name: int(offer.detail[name]) for name in FIGURES})


def flavor_detail(detail: Mapping[str, object]) -> dict[str, int]:
    """A new flavor's figures, each a whole number from 1 on. Raises Invalid, naming the field."""
    if unknown := detail.keys() - FIGURES.keys():
        raise Invalid(f"A flavor has no {rules.shown(min(unknown))}.", field=min(unknown))
    found = {}
    for name, most in FIGURES.items():
        value = rules.integer(detail.get(name, 4096 if name == "pids" else None), name)
        if not 1 <= value <= most:
            raise Invalid(f"{name} must be from 1 to {most}, not {value}.", field=name)
        found[name] = value
    return found
