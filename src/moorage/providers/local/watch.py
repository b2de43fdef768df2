"""Noticing at once that a node's pid 1 ended: a pidfd each, no polling."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from moorage.providers.local.runtime import Init


class Watch:
    """A hint and no guarantee: what can't be watched is seen at the cluster's next turn."""

    def __init__(self) -> None:
        self._handles: dict[Init, int] = {}
        self._changed: dict[str, None] = {}
        self._wake = asyncio.Event()

    def over(self, owner: str, init: Init) -> None:
        """Watch over the process, from now to its end."""
        if init in self._handles:
            return
        try:
            handle = os.pidfd_open(init.pid)
        except OSError:  # it ended, or this process has no descriptors left
            return
        self._handles[init] = handle
        asyncio.get_running_loop().add_reader(handle, self._ended, owner, init)

    async def changes(self) -> AsyncIterator[str]:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._changed:
                owner, _ = self._changed.popitem()
                yield owner

    def _ended(self, owner: str, init: Init) -> None:
        handle = self._handles.pop(init)
        asyncio.get_running_loop().remove_reader(handle)
        os.close(handle)
        self._changed[owner] = None
        self._wake.set()
