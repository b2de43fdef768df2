"""What a provider offers by name, where there is no Nova, Glance or Neutron to ask."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class OfferKind(enum.StrEnum):
    FLAVOR = "flavor"
    IMAGE = "image"
    KEYPAIR = "keypair"
    NETWORK = "network"
    SUBNET = "subnet"


@dataclass(frozen=True, slots=True)
class Offer:
    """One entry. `detail` of a flavor: vcpus, memory_mib, disk_gib and pids, whole numbers.

    `builtin`: it comes with the provider, and can't be removed.
    """

    provider: str
    kind: OfferKind
    name: str
    detail: Mapping[str, int | str] = field(default_factory=dict)
    builtin: bool = False
