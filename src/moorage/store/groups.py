"""Node groups as JSON within their cluster's row, and back."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from moorage.model.node import Flavor
from moorage.model.nodegroup import NodeGroup, Taint
from moorage.model.status import ClusterStatus

_TIMES = ("created_at", "updated_at")
_NUMBERS = ("ordinals", "removed")


def written(group: NodeGroup) -> dict[str, Any]:
    values = asdict(group)
    for name in _NUMBERS:
        values[name] = list(values[name])
    for name in _TIMES:
        time = values[name]
        values[name] = time.isoformat() if time else None
    return values


def read(values: Mapping[str, Any]) -> NodeGroup:
    times = {
        name: datetime.datetime.fromisoformat(values[name]) if values[name] else None
        for name in _TIMES
    }
    numbers = {name: tuple(values.get(name, ())) for name in _NUMBERS}
    return NodeGroup(
        **{
            **values,
            **times,
            **numbers,
            "flavor": Flavor(**values["flavor"]),
            "node_taints": tuple(Taint(**taint) for taint in values["node_taints"]),
            "status": ClusterStatus(values["status"]),
        }
    )


def all_written(groups: Iterable[NodeGroup]) -> list[dict[str, Any]]:
    return [written(group) for group in groups]


def all_read(values: Iterable[Mapping[str, Any]]) -> tuple[NodeGroup, ...]:
    return tuple(map(read, values))
