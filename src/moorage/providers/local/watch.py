"""Noticing at once that a node's pid 1 ended, and soon what else befalls it from outside.

A pidfd for each node, without polling. No kernel tells of a disk that is full or has room again:
each is asked about every DISK_SECONDS, which is one statvfs (2 µs). So is what guards its cluster's
network, which others may take away: that is one look for all nodes together (`LocalNetwork`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from moorage.providers.local import disk
from moorage.providers.local.runtime import Init

log = structlog.get_logger(__name__)

DISK_SECONDS = 3.0


async def _unguarded() -> str:
    return ""


@dataclass(slots=True)
class _Node:
    """A node that runs. `trouble`: whether its disk and its guards were last seen to suffer."""

    owner: str
    root: Path
    handle: int
    guards: Callable[[], Awaitable[str]]
    trouble: tuple[bool, bool]


class Watch:
    """A hint and no guarantee: what can't be watched is seen at the cluster's next turn."""

    def __init__(self, *, disk_seconds: float = DISK_SECONDS) -> None:
        self._disk_seconds = disk_seconds
        self._nodes: dict[Init, _Node] = {}
        self._changed: dict[str, None] = {}
        self._wake = asyncio.Event()

    def over(
        self,
        owner: str,
        init: Init,
        root: Path,
        guards: Callable[[], Awaitable[str]] = _unguarded,
    ) -> None:
        """Watch over the process, from now to its end, and over the disk at `root`.

        And over what `guards` tells: what is lost, or nothing.
        """
        if init in self._nodes:
            return
        try:
            handle = os.pidfd_open(init.pid)
        except OSError:  # it ended, or this process has no descriptors left
            return
        self._nodes[init] = _Node(owner, root, handle, guards, (bool(disk.trouble(root)), False))
        asyncio.get_running_loop().add_reader(handle, self._ended, init)

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
            await asyncio.sleep(self._disk_seconds)
            for node in list(self._nodes.values()):
                try:
                    trouble = (bool(disk.trouble(node.root)), bool(await node.guards()))
                except Exception:
                    # One that can't be asked must not keep the others from being looked at.
                    log.exception("a node can't be looked at", cluster=node.owner)
                    continue
                if trouble != node.trouble:
                    node.trouble = trouble
                    self._tell(node.owner)

    def _ended(self, init: Init) -> None:
        node = self._nodes.pop(init)
        asyncio.get_running_loop().remove_reader(node.handle)
        os.close(node.handle)
        self._tell(node.owner)

    def _tell(self, owner: str) -> None:
        self._changed[owner] = None
        self._wake.set()
