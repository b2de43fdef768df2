"""Which requests without a known caller have a line in the log: one of each address and second.

The log is bounded, so whoever can write to it without end erases it. A caller who is known can be
asked about it; of the others, one line an address and second tells as much as all of them, and
the metrics count each.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

EVERY = 1.0
"""Seconds between two lines of one address."""
MOST = 1000
"""Addresses that are kept; the one that had its line longest ago goes first."""


class Strangers:
    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._told: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """When each had its last line, and how many requests had none since."""

    def untold(self, address: str) -> int | None:
        """How many requests of this address had no line since its last one.

        None: nor has this one.
        """
        now = self._clock()
        at, count = self._told.get(address, (float("-inf"), 0))
        if now - at < EVERY:
            self._told[address] = at, count + 1
            return None
        self._told[address] = now, 0
        self._told.move_to_end(address)
        if len(self._told) > MOST:
            self._told.popitem(last=False)
        return count
