"""A plan: the steps from what is to what is wanted, as data that prints as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

ENSURE_NODE = "ensure-node"
"""The verb of a step that the provider performs: `NodeProvider.ensure`."""
DELETE_NODE = "delete-node"
"""The verb of a step that the provider performs: `NodeProvider.delete`."""
PUBLISH = "publish"
"""The verb of a step that the provider performs: `Publishes.publish`."""

RESTART = "restart"
"""In the detail of a driver's step: it ends what runs on the node, and starts it again. Healing
remembers that it was done."""


@dataclass(frozen=True, slots=True)
class Step:
    """One idempotent act on one node (or on the cluster, where `node` is empty).

    It starts when every step whose key is in `after` has succeeded; a key that is
    not in the plan counts as done. It may take `timeout` seconds.
    """

    verb: str
    node: str = ""
    after: frozenset[str] = frozenset()
    detail: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 60.0

    @property
    def key(self) -> str:
        return f"{self.verb} {self.node}".rstrip()

    def __str__(self) -> str:
        words = [self.key, *(f"{name}={value}" for name, value in sorted(self.detail.items()))]
        if self.after:
            words.append(f"after [{', '.join(sorted(self.after))}]")
        return " ".join(words)


def as_text(steps: Iterable[Step]) -> str:
    """The plan, one step a line, in the order given; the empty plan is an empty text."""
    return "\n".join(str(step) for step in steps)
