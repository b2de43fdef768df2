"""A cluster template (once: baymodel): what clusters made from it have in common."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ClusterTemplate:
    """One template. `options` holds the API's fields that no room of ours reads.

    (`image_id`, `dns_nameserver`, `docker_storage_driver` and their like: kept and
    shown as the client sent them.)
    """

    uuid: str
    project_id: str
    user_id: str
    name: str | None
    coe: str
    flavor_id: str
    master_flavor_id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    public: bool = False
    hidden: bool = False
    created_at: datetime.datetime | None = None
    updated_at: datetime.datetime | None = None
    id: int = 0
    """The store's own row number: the default order of lists. 0 until stored."""
