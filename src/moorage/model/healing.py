"""What healing has to remember from one turn of a cluster to the next. Times are aware, in UTC."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Strikes:
    """How often in a row a node was found failing, and when that was counted last.

    `restarted`: the count at which what runs on it was ended and started again, to no avail;
    0 where that was not done.
    """

    count: int
    at: datetime.datetime
    restarted: int = 0


@dataclass(frozen=True, slots=True)
class Healing:
    """`strikes`: the nodes that fail now. `replaced`: when nodes were, the oldest first."""

    strikes: Mapping[str, Strikes] = field(default_factory=dict)
    replaced: tuple[datetime.datetime, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """The strikes of each node."""
        return {name: strikes.count for name, strikes in self.strikes.items()}

    @property
    def restarted(self) -> dict[str, int]:
        """The nodes that failed on though they were restarted: after how many strikes that was."""
        return {name: s.restarted for name, s in self.strikes.items() if s.restarted}
