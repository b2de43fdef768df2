"""Where the one endpoint of a cluster leads: to a master that is ready, and stays so. Pure.

A provider leads it to any node that runs, for it knows no more. Drivers know who is of use, and
whom their plan takes away for a while: before that, the endpoint leads elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from moorage.model.node import ObservedNode
from moorage.model.plan import DELETE_NODE, ENSURE_NODE, PUBLISH, Step

PUBLISH_SECONDS = 20.0


def published(
    steps: Sequence[Step],
    seen: Mapping[str, ObservedNode],
    ready: Sequence[str],
    ending: Collection[str],
    renewing: Collection[str],
) -> list[Step]:
    """The plan, with what keeps the endpoint at one of the masters that are `ready`.

    `ending`: the verbs of the driver's steps from whose beginning on their master is of no use,
    beside those that delete it, or make it anew since it is among `renewing`. It is of use
    again when all that is planned for it is done. Where nobody is ready, or it is not known
    where the endpoint leads, the plan stays as it is.
    """
    at = next((name for name, node in seen.items() if node.published), None)
    if at is None or not ready:
        return list(steps)
    ends = {DELETE_NODE, *ending}
    anew = {f"{ENSURE_NODE} {name}" for name in renewing}
    away = anew | {step.key for step in steps if step.verb in ends}
    return _Way(at, ready, steps, away).planned()


class _Way:
    def __init__(
        self, at: str, ready: Sequence[str], steps: Sequence[Step], away: Collection[str]
    ) -> None:
        self.at = at
        self.ready = ready
        self.steps = steps
        self.away = away
        self.going = [step.node for step in steps if step.key in away]
        self.made: dict[str, Step] = {}
        self.left: dict[str, str] = {}
        """By node that the endpoint led to: the step after which it doesn't."""

    def planned(self) -> list[Step]:
        if self.at not in self.ready:
            staying = [name for name in self.ready if name not in self.going]
            self._lead((staying or self.ready)[0])
        done: list[Step] = []
        for step in self.steps:
            after = step.after
            if step.key in self.away:
                if step.node == self.at:
                    self._leave(done)
                after |= {self.left[step.node]} if step.node in self.left else set()
            done.append(replace(step, after=after))
        return [*self.made.values(), *done]

    def _leave(self, done: Sequence[Step]) -> None:
        """Lead it to who stays; else to who is back by then; else to who is the last to go."""
        staying = [name for name in self.ready if name not in self.going]
        were_away = {step.node for step in done if step.key in self.away}
        back = [name for name in self.ready if name in were_away]
        last = [name for name in reversed(self.going) if name in self.ready]
        for name in (*staying, *back, *last):
            if name != self.at and name not in self.made:
                waits = {step.key for step in done if step.node == name and name in were_away}
                self._lead(name, frozenset(waits))
                return

    def _lead(self, name: str, after: frozenset[str] = frozenset()) -> None:
        step = Step(PUBLISH, name, after=after, timeout=PUBLISH_SECONDS)
        self.made[name], self.left[self.at], self.at = step, step.key, name
