"""Clusters whose engines tell of trouble by themselves: one stream each, and a hint at most.

A stream is begun, or left as it is, after each turn of a cluster that is whole (`heed`), and
ended with the turn that finds it otherwise. Nothing is begun again but by a turn: a stream
that ends is a sign of trouble, so a turn is asked for, and that turn decides. What must stay
true:

- However much an engine has to tell, and however often it breaks off: its cluster gets a turn
  at most once a *pause*. That is a second, and twice as long after each hint in vain (its turn
  found nothing to do), up to LONGEST. Nothing is read meanwhile.
- A stream is a hint. The timer of the row looks at each cluster in any case.
- A stream lasts; what only a turn may have (the key of the cluster's CA) is not kept by it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from time import monotonic

import structlog

from moorage.model.cluster import ClusterSpec
from moorage.model.errors import MoorageError
from moorage.model.node import ObservedNode
from moorage.model.ports import Hears

log = structlog.get_logger(__name__)

GAP = 1.0
LONGEST = 30.0
MOST = 1000
"""Streams of one process. The clusters that had no turn for longest go without."""
LASTING = 900.0
"""Seconds after which a cluster that had no turn here is another process's, or gone."""


@dataclass(eq=False, slots=True)
class _Ear:
    """One cluster. `what` is heard, and `task` hears it; `pause` is the wait after a hint.

    `hinted` is when the last one was given, and `open` whether its turn is still to come.
    """

    what: Hashable
    heeded: float
    pause: float
    hinted: float = float("-inf")
    open: bool = False
    task: asyncio.Task[None] | None = None


class Ears:
    """Calls `changed(uuid)` for what the engines of clusters tell. `aclose` ends it."""

    def __init__(
        self,
        changed: Callable[[str], Awaitable[None]],
        *,
        gap: float = GAP,
        longest: float = LONGEST,
        most: int = MOST,
    ) -> None:
        self._changed = changed
        self._gap = gap
        self._longest = longest
        self._most = most
        self._ears: OrderedDict[str, _Ear] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def heard(self) -> int:
        """How many clusters are listened to now."""
        return sum(ear.task is not None for ear in self._ears.values())

    def heed(
        self,
        driver: Hears,
        cluster: ClusterSpec,
        nodes: Mapping[str, ObservedNode],
        *,
        vain: bool,
    ) -> None:
        """Listen to the cluster as it is now, or go on with that.

        `vain`: the turn that it just had found nothing to do.
        """
        what = (
            cluster.authority.revision,
            frozenset((name, node.address) for name, node in nodes.items()),
        )
        ear = self._ears.pop(cluster.uuid, None)
        if ear is None:
            ear = _Ear(what, 0.0, self._gap)
        ear.heeded = monotonic()
        if ear.open:
            ear.open = False
            ear.pause = min(2.0 * ear.pause, self._longest) if vain else self._gap
        self._ears[cluster.uuid] = ear
        if ear.task is not None and ear.what != what:
            self._end(ear)
        if ear.task is None:
            ear.what = what
            ear.task = asyncio.create_task(self._listen(ear, driver, cluster, nodes))
            self._tasks.add(ear.task)
            ear.task.add_done_callback(self._tasks.discard)
        self._make_room()

    def forget(self, uuid: str) -> None:
        """Listen to the cluster no more."""
        if ear := self._ears.pop(uuid, None):
            self._end(ear)

    async def aclose(self) -> None:
        for uuid in list(self._ears):
            self.forget(uuid)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(
        self, ear: _Ear, driver: Hears, cluster: ClusterSpec, nodes: Mapping[str, ObservedNode]
    ) -> None:
        uuid = cluster.uuid
        try:
            # One that ends as soon as it was begun has ever longer to wait.
            await self._rest(ear)
            listening = driver.changes(cluster, nodes)
            del cluster  # it has the key of the CA, which must not be kept that long
            async with aclosing(listening) as changes:
                async for _ in changes:
                    await self._hint(uuid, ear)
                    await self._rest(ear)
            log.debug("an engine ended its events", cluster=uuid)
        except MoorageError as error:
            log.debug("an engine tells no more", cluster=uuid, reason=error.reason)
        except Exception:
            log.exception("internal error while listening to an engine", cluster=uuid)
        ear.task = None
        await self._hint(uuid, ear)

    async def _rest(self, ear: _Ear) -> None:
        """The pause after a hint, which its turn may lengthen meanwhile."""
        while (left := ear.hinted + ear.pause - monotonic()) > 0.0:  # noqa: ASYNC110
            await asyncio.sleep(left)

    async def _hint(self, uuid: str, ear: _Ear) -> None:
        now = monotonic()
        if now - ear.hinted > 2.0 * ear.pause:
            ear.pause = self._gap
        ear.hinted, ear.open = now, True
        try:
            await self._changed(uuid)
        except Exception:
            # Only a hint is lost: the timer sees the change, later.
            log.exception("a hint was lost", cluster=uuid)

    def _make_room(self) -> None:
        before = monotonic() - LASTING
        while self._ears:
            uuid, oldest = next(iter(self._ears.items()))
            if oldest.heeded >= before and len(self._ears) <= self._most:
                return
            self.forget(uuid)

    def _end(self, ear: _Ear) -> None:
        if ear.task is not None:
            ear.task.cancel()
            ear.task = None
