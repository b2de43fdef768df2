"""Noticing at once that a node's pid 1 ended, and soon what else befalls it from outside.

A pidfd for each node, without polling. No kernel tells of a disk that is full or has room again:
each is asked about every LOOK_SECONDS, which is one statvfs (2 µs). So is what guards its cluster's
network, which others may take away: that is one look for all nodes together (`LocalNetwork`).

What is told is a difference from what a turn has seen, and not from the look before: a disk that
fills, is seen by a turn, and has room again between two looks must be told of as well.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

import structlog

from moorage.providers.local.runtime import Init

log = structlog.get_logger(__name__)

LOOK_SECONDS = 3.0

Troubles = tuple[str, ...]
"""What is wrong with a node that runs, one text of each kind; empty where nothing is."""


@dataclass(slots=True)
class _Node:
    """A node that runs. `seen`: the kinds of trouble of which its cluster's turns know."""

    owner: str
    handle: int
    look: Callable[[], Awaitable[Troubles]]
    seen: frozenset[int] = frozenset()


class Watch:
    """A hint and no guarantee: what can't be watched is seen at the cluster's next turn."""

    def __init__(self, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._look_seconds = look_seconds
        self._nodes: dict[Init, _Node] = {}
        self._changed: dict[str, None] = {}
        self._wake = asyncio.Event()

    def over(self, owner: str, init: Init, look: Callable[[], Awaitable[Troubles]]) -> None:
        """Watch over the process, from now to its end, and over what `look` finds."""
        if init in self._nodes:
            return
        try:
            handle = os.pidfd_open(init.pid)
        except OSError:  # it ended, or this process has no descriptors left
            return
        self._nodes[init] = _Node(owner, handle, look)
        asyncio.get_running_loop().add_reader(handle, self._ended, init)

    def seen(self, init: Init, troubles: Troubles) -> None:
        """A turn knows of these by now: told is what differs."""
        if node := self._nodes.get(init):
            node.seen = _kinds(troubles)

    async def changes(self) -> AsyncGenerator[str, None]:
        looking = asyncio.create_task(self._look_around())
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._changed:
                    owner, _ = self._changed.popitem()
                    yield owner
        finally:
            looking.cancel()

    async def _look_around(self) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            for node in list(self._nodes.values()):
                try:
                    found = _kinds(await node.look())
                except Exception:
                    # One that can't be asked must not keep the others from being looked at.
                    log.exception("a node can't be looked at", cluster=node.owner)
                    continue
                if found != node.seen:
                    node.seen = found
                    self._tell(node.owner)

    def _ended(self, init: Init) -> None:
        node = self._nodes.pop(init)
        asyncio.get_running_loop().remove_reader(node.handle)
        os.close(node.handle)
        self._tell(node.owner)

    def _tell(self, owner: str) -> None:
        self._changed[owner] = None
        self._wake.set()


def _kinds(troubles: Troubles) -> frozenset[int]:
    """Which there are. Their texts have figures, which change all the time."""
    return frozenset(kind for kind, trouble in enumerate(troubles) if trouble)
