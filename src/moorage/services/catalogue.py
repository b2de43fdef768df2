"""What this install offers: flavors, COEs and providers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from moorage.model.cluster import Cluster, ClusterSpec
from moorage.model.errors import Invalid
from moorage.model.node import Flavor, NodeSpec
from moorage.model.ports import AnyDriver, Authority, HasRoom, NodeProvider
from moorage.services import rules

T = TypeVar("T")
PROVIDER_LABEL = "provider"
"""The label by which a template or a cluster chooses a provider other than the default."""


class Catalogue:
    """Looks names up, and says which there are where one is unknown.

    The first flavor is the one for whoever names none.
    """

    def __init__(
        self,
        flavors: Iterable[Flavor],
        drivers: Mapping[str, AnyDriver],
        providers: Mapping[str, NodeProvider],
        default_provider: str,
    ) -> None:
        self._flavors = {flavor.name: flavor for flavor in flavors}
        self._drivers = drivers
        self._providers = providers
        self._default_provider = default_provider

    @property
    def default_flavor(self) -> str:
        return next(iter(self._flavors))

    def flavor(self, name: str, field: str = "flavor_id") -> Flavor:
        """Raises Invalid, naming the flavors there are."""
        return _known(self._flavors, name, "flavor", field)

    def driver(self, coe: str) -> AnyDriver:
        """Raises Invalid (field `coe`), naming the COEs there are."""
        return _known(self._drivers, coe, "COE", "coe")

    def provider(self, name: str) -> NodeProvider:
        """Raises Invalid (field `labels`), naming the providers there are."""
        return _known(self._providers, name, "provider", "labels")

    def provider_for(self, labels: Mapping[str, str]) -> str:
        """The name of the provider that the labels choose, or the default one's."""
        name = labels.get(PROVIDER_LABEL, self._default_provider)
        self.provider(name)
        return name

    def nodes(self, cluster: Cluster, authority: Authority) -> list[NodeSpec]:
        """The nodes that the cluster wants."""
        spec = ClusterSpec(
            uuid=cluster.uuid,
            name=cluster.name,
            coe=cluster.coe,
            masters=cluster.master_count,
            workers=cluster.node_count,
            flavor=self.flavor(cluster.flavor_id),
            master_flavor=self.flavor(cluster.master_flavor_id, "master_flavor_id"),
            authority=authority,
            labels=cluster.labels,
        )
        return self.driver(cluster.coe).nodes(spec)

    async def room(self, provider: str, nodes: Iterable[NodeSpec]) -> None:
        """Raises NoRoom where the provider knows that these nodes will not fit."""
        where = self.provider(provider)
        if isinstance(where, HasRoom):
            await where.room_for(list(nodes))


def _known(there: Mapping[str, T], name: str, what: str, field: str) -> T:
    try:
        return there[name]
    except KeyError:
        raise Invalid(
            f"There is no {what} {rules.shown(name)}; there is: {', '.join(sorted(there))}.",
            field=field,
        ) from None
