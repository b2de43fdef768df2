"""Noticing at once that a node's pid 1 ended, and soon that its disk is full or has room again.

A pidfd for each node, without polling. No kernel tells of a disk: each is asked about every
DISK_SECONDS, which is one statvfs (2 µs).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from moorage.providers.local import disk
from moorage.providers.local.runtime import Init

DISK_SECONDS = 3.0


@dataclass(slots=True)
class _Node:
    """A node that runs. `trouble` is what its disk was last seen to suffer from."""

    owner: str
    root: Path
    handle: int
    trouble: bool


class Watch:
    """A hint and no guarantee: what can't be watched is seen at the cluster's next turn."""

    def __init__(self, *, disk_seconds: float = DISK_SECONDS) -> None:
        self._disk_seconds = disk_seconds
        self._nodes: dict[Init, _Node] = {}
        self._changed: dict[str, None] = {}
        self._wake = asyncio.Event()

    def over(self, owner: str, init: Init, root: Path) -> None:
        """Watch over the process, from now to its end, and over the disk at `root`."""
        if init in self._nodes:
            return
        try:
            handle = os.pidfd_open(init.pid)
        except OSError:  # it ended, or this process has no descriptors left
            return
        self._nodes[init] = _Node(owner, root, handle, bool(disk.trouble(root)))
        asyncio.get_running_loop().add_reader(handle, self._ended, init)

    async def changes(self) -> AsyncGenerator[str, None]:
        looking = asyncio.create_task(self._look_at_disks())
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._changed:
                    owner, _ = self._changed.popitem()
                    yield owner
        finally:
            looking.cancel()

    async def _look_at_disks(self) -> None:
        while True:
            await asyncio.sleep(self._disk_seconds)
            for node in self._nodes.values():
                trouble = bool(disk.trouble(node.root))
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
