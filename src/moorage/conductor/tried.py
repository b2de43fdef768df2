"""Which plans were carried out, and needed again."""

from __future__ import annotations


class Tried:
    """The plans that were carried out without a fault since each cluster was last whole.

    To be needed again is a kind of failure, and must wait as one. Kept from turn to turn;
    nothing but that wait hangs on it.
    """

    def __init__(self) -> None:
        self._plans: dict[str, set[str]] = {}

    def knows(self, uuid: str, plan: str) -> bool:
        return plan in self._plans.get(uuid, ())

    def add(self, uuid: str, plan: str) -> None:
        self._plans.setdefault(uuid, set()).add(plan)

    def forget(self, uuid: str) -> None:
        self._plans.pop(uuid, None)
