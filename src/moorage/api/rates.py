"""How many changes a project may ask for: a bucket of tokens each.

A bucket holds `burst` tokens, and `rate` of them flow in each second; a change takes one. It
is asked once the caller is known and before the body is read. Admins' projects have one as
well: a script that runs wild is most often an operator's.

What is refused here is not in the audit log: each record is a write that the disk has to
sync, so that a flood of refusals would do what the limit is there to prevent. It has its line
in the log, and a counter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from moorage.api.errors import TooMany

MOST_PROJECTS = 10_000
"""Buckets that are kept. The one that was used longest ago goes first, and is full again."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Rates:
    """The buckets of one process. `rate` 0: no limit."""

    def __init__(self, rate: float, burst: int, *, clock: Callable[[], float] = monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, project: str) -> None:
        """Raises TooMany, with the time after which there is a token again."""
        if not self._rate:
            return
        now = self._clock()
        bucket = self._buckets.get(project)
        if bucket is None:
            bucket = self._buckets[project] = _Bucket(self._burst, now)
            if len(self._buckets) > MOST_PROJECTS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(project)
            bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
            bucket.at = now
        if bucket.tokens < 1:
            raise TooMany(
                f"This project asks for too many changes: {self._rate:g} a second are allowed, "
                f"and {self._burst} at once.",
                delay=(1 - bucket.tokens) / self._rate,
            )
        bucket.tokens -= 1
