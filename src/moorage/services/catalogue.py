"""What this install has: COEs, providers, and what each provider offers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network
from typing import Protocol, TypeVar

from moorage.model.caller import Caller, Permission
from moorage.model.cluster import Cluster
from moorage.model.errors import Conflict, Invalid
from moorage.model.node import Flavor, Least, NodeSpec, Role
from moorage.model.offer import Offer, OfferKind
from moorage.model.ports import (
    AnyDriver,
    Checks,
    HasAddresses,
    HasHome,
    HasRoom,
    Needs,
    NodeProvider,
)
from moorage.planning import healing
from moorage.services import rules, sizes
from moorage.services.access import require
from moorage.services.offers import Shelf, built_in, flavor_detail
from moorage.services.requests import NewOffer

T = TypeVar("T")
PROVIDER_LABEL = "provider"
"""The label by which a template or a cluster chooses a provider other than the default."""
KNOWN_LABELS = frozenset({PROVIDER_LABEL, healing.LABEL})
"""The labels that have an effect, whatever the COE (docs/labels.md). A driver may know more."""


class KeptOffers(Protocol):
    """Where the offers that admins added are kept: `store.offers`."""

    async def list(self) -> Sequence[Offer]: ...

    async def add(self, offer: Offer) -> Offer: ...

    async def remove(self, provider: str, kind: OfferKind, name: str) -> None: ...


class Catalogue:
    """Looks names up, and says which there are where one is unknown.

    `flavors` are those that every provider has; the first one is for whoever names none.
    `conducting`: this process conducts as well, so that it knows how its machine is.
    """

    def __init__(
        self,
        flavors: Iterable[Flavor],
        drivers: Mapping[str, AnyDriver],
        providers: Mapping[str, NodeProvider],
        default_provider: str,
        kept: KeptOffers,
        *,
        conducting: bool = True,
    ) -> None:
        self.conducting = conducting
        sizes = list(flavors)
        self._built_in = [offer for name in providers for offer in built_in(name, sizes)]
        self._drivers = drivers
        self._providers = providers
        self._default_provider = default_provider
        self._kept = kept

    @property
    def providers(self) -> Mapping[str, NodeProvider]:
        """Those that are installed, by name."""
        return self._providers

    def driver(self, coe: str) -> AnyDriver:
        """Raises Invalid (field `coe`), naming the COEs there are."""
        return _known(self._drivers, coe, "COE", "coe")

    def own_labels(self, coe: str) -> frozenset[str]:
        """Those that its driver makes something of."""
        driver = self.driver(coe)
        return driver.labels if isinstance(driver, Checks) else frozenset()

    def checked(self, coe: str, labels: Mapping[str, str], provider: str) -> Mapping[str, str]:
        """A new cluster's labels as it will have them, by its driver. Raises Invalid."""
        driver = self.driver(coe)
        if not isinstance(driver, Checks):
            return labels
        return driver.checked(labels, nodes=self._addresses(provider))

    def rechecked(self, before: Cluster, labels: Mapping[str, str]) -> Mapping[str, str]:
        """The same for a cluster that is there."""
        driver = self.driver(before.coe)
        if not isinstance(driver, Checks):
            return labels
        return driver.checked(labels, before.labels, before.coe_version or "")

    def check(self, coe: str, labels: Mapping[str, str], provider: str) -> None:
        """Raises Invalid where no cluster with a template's labels can be had by now."""
        driver = self.driver(coe)
        if isinstance(driver, Checks):
            driver.check(labels, self._addresses(provider))

    def _addresses(self, provider: str) -> Sequence[IPv4Network]:
        where = self.provider(provider)
        return where.addresses if isinstance(where, HasAddresses) else ()

    def said_of_labels(self, coe: str, labels: Mapping[str, str]) -> str | None:
        """A sentence on those that have no effect here: they are kept, and reported."""
        unknown = sorted(labels.keys() - KNOWN_LABELS - self.own_labels(coe))
        return f"Labels that are kept without effect: {', '.join(unknown)}." if unknown else None

    def provider(self, name: str, field: str = "labels") -> NodeProvider:
        """Raises Invalid, naming the providers there are."""
        return _known(self._providers, name, "provider", field)

    def provider_for(self, labels: Mapping[str, str]) -> str:
        """The name of the provider that the labels choose, or the default one's."""
        name = labels.get(PROVIDER_LABEL, self._default_provider)
        self.provider(name)
        return name

    async def shelf(self, provider: str) -> Shelf:
        """What that provider offers."""
        return Shelf(provider, [*self._built_in, *await self._kept.list()])

    def least(self, coe: str, role: Role, labels: Mapping[str, str]) -> Least:
        """What a node of a cluster with these labels must have."""
        driver = self._drivers.get(coe)
        return driver.least(role, labels) if isinstance(driver, Needs) else Least()

    async def size(self, before: Cluster | None, after: Cluster) -> None:
        """Raises Invalid where nodes that are new have too small a flavor for their COE."""
        for group in sizes.changed(before, after):
            least = self.least(after.coe, group.kind, after.labels)
            if not least.fits(group.flavor):
                shelf = await self.shelf(after.provider)
                sizes.refuse_small(after.coe, group.kind, least, group.flavor, shelf)

    async def room(self, before: Cluster | None, after: Cluster) -> None:
        """Raises NoRoom where the provider knows that the nodes that are new will not fit.

        A provider with a home knows of its own machine, and what is promised there while it
        makes the nodes itself: an API alone doesn't ask it. The conductor does.
        """
        where = self.provider(after.provider)
        if isinstance(where, HasHome) and not self.conducting:
            return
        if isinstance(where, HasRoom):
            there = {name for group in before.groups for name in group.nodes} if before else set()
            if new := [node for node in _nodes(after) if node.name not in there]:
                await where.room_for(new)

    # The catalogue itself, as admins keep it

    async def list(self, caller: Caller, kind: str | None, provider: str | None) -> list[Offer]:
        """Raises Invalid for an unknown kind or provider."""
        require(caller, Permission.READER)
        chosen = None if kind is None else _kind(kind)
        if provider is not None:
            self.provider(provider, "provider")
        return [
            offer
            for offer in [*self._built_in, *await self._kept.list()]
            if chosen in {None, offer.kind} and provider in {None, offer.provider}
        ]

    async def add(self, caller: Caller, new: NewOffer) -> Offer:
        """For admins. Raises Invalid; Conflict where there is one of that name."""
        require(caller, Permission.ADMIN)
        kind, provider = _kind(new.kind), new.provider or self._default_provider
        self.provider(provider, "provider")
        name = rules.text(new.name, "name", longest=rules.LABEL_LENGTH)
        if not name.strip() or not name.isprintable():
            raise Invalid(f"The name {rules.shown(name)} must be printable.", field="name")
        if kind is not OfferKind.FLAVOR and new.detail:
            raise Invalid(f"A {kind} has no detail.", field="detail")
        detail = flavor_detail(new.detail) if kind is OfferKind.FLAVOR else {}
        if self._is_built_in(provider, kind, name):
            raise Conflict(f"Provider {provider} has a {kind} {name} already.")
        return await self._kept.add(Offer(provider, kind, name, detail))

    async def remove(self, caller: Caller, kind: str, name: str, provider: str | None) -> Offer:
        """For admins. Clusters keep what they have. Raises NotFound; Conflict if built in."""
        require(caller, Permission.ADMIN)
        where, what = provider or self._default_provider, _kind(kind)
        if self._is_built_in(where, what, name):
            raise Conflict(f"The {what} {name} comes with provider {where}: it stays.")
        await self._kept.remove(where, what, rules.text(name, "name", longest=rules.LABEL_LENGTH))
        return Offer(where, what, name)

    def _is_built_in(self, provider: str, kind: OfferKind, name: str) -> bool:
        return any((o.provider, o.kind, o.name) == (provider, kind, name) for o in self._built_in)


def _nodes(cluster: Cluster) -> list[NodeSpec]:
    """As far as room is concerned: what their driver adds takes none."""
    return [
        NodeSpec(cluster.uuid, name, group.kind, group.flavor, hostname=name)
        for group in cluster.groups
        for name in group.nodes
    ]


def _kind(text: str) -> OfferKind:
    try:
        return OfferKind(text)
    except ValueError:
        raise Invalid(
            f"The kind must be one of {', '.join(OfferKind)}, not {rules.shown(text)}.",
            field="kind",
        ) from None


def _known(there: Mapping[str, T], name: str, what: str, field: str) -> T:
    try:
        return there[name]
    except KeyError:
        raise Invalid(
            f"There is no {what} {rules.shown(name)}; there is: {', '.join(sorted(there))}.",
            field=field,
        ) from None
