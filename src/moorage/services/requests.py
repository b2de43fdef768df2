"""What callers ask for, as the API has parsed it and before any rule was applied.

None stands for "not given" throughout: clients of the container-infra API send null
for every field that was left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class NewTemplate:
    """`options`: the API's fields that have no place of their own in ClusterTemplate."""

    coe: str
    name: str | None = None
    flavor_id: str | None = None
    master_flavor_id: str | None = None
    labels: Mapping[str, object] | str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    public: bool = False
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class NewCluster:
    """`template`: uuid or name. `create_timeout`: minutes, None or 0 for the default.

    With `merge_labels` the cluster's labels are laid over the template's; without, they
    replace them (no labels given: the template's). `options`: the API's other fields.
    """

    template: str
    name: str | None = None
    node_count: int | None = None
    master_count: int | None = None
    flavor_id: str | None = None
    master_flavor_id: str | None = None
    labels: Mapping[str, object] | str | None = None
    merge_labels: bool = False
    create_timeout: int | None = None
    options: Mapping[str, object] = field(default_factory=dict)


class PatchOp(NamedTuple):
    """One operation of a JSON patch: `PatchOp("add", "/labels/x", "y")`."""

    op: str
    path: str
    value: object = None


@dataclass(frozen=True, slots=True)
class NewNodeGroup:
    """A group to add to a cluster. `flavor_id`, `image_id`, labels: None: the cluster's own."""

    name: str
    node_count: int | None = None
    min_node_count: int | None = None
    max_node_count: int | None = None
    role: str | None = None
    flavor_id: str | None = None
    image_id: str | None = None
    docker_volume_size: int | None = None
    labels: Mapping[str, object] | str | None = None
    merge_labels: bool = False
    node_labels: Mapping[str, object] | str | None = None
    node_taints: Sequence[object] | str | None = None


@dataclass(frozen=True, slots=True)
class NewSize:
    """`nodes_to_remove`: names or addresses of nodes; `group`: uuid or name, None: the workers."""

    node_count: int
    nodes_to_remove: Sequence[str] = ()
    group: str | None = None


@dataclass(frozen=True, slots=True)
class NewRelease:
    """The template to go to: uuid or name; `batch_size` nodes may be away at once."""

    template: str
    batch_size: int | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class NewQuota:
    project_id: str
    resource: str
    hard_limit: int


@dataclass(frozen=True, slots=True)
class NewOffer:
    """An entry of a provider's catalogue. `detail`: what a flavor holds; empty for other kinds."""

    kind: str
    name: str
    provider: str | None = None
    detail: Mapping[str, object] = field(default_factory=dict)
