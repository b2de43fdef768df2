"""Providers that notice by themselves that something happened: a hint each, not a storm."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from moorage.model.errors import MoorageError
from moorage.model.ports import NodeProvider, Watches

log = structlog.get_logger(__name__)

GAP = 1.0
"""A cluster is hastened this often at the most, in seconds: a node that dies as soon as it
is made must not keep its cluster busy without a pause."""
PAUSE = 5.0
"""Seconds until a watcher that fell over is started again."""


class Watch:
    """Calls `changed(owner)` for what the providers see, at most once a GAP for each owner.

    The first change of an owner is passed on at once, those within the gap together at its
    end.
    """

    def __init__(
        self,
        providers: Mapping[str, NodeProvider],
        changed: Callable[[str], Awaitable[None]],
        *,
        gap: float = GAP,
    ) -> None:
        self._watched = {n: p for n, p in providers.items() if isinstance(p, Watches)}
        self._changed = changed
        self._gap = gap
        self._passing: dict[str, asyncio.Task[None]] = {}
        self._pending: set[str] = set()

    async def run(self) -> None:
        """Watch until cancelled."""
        watchers = [asyncio.create_task(self._watch(n, p)) for n, p in self._watched.items()]
        try:
            await asyncio.gather(*watchers)
        finally:
            tasks = [*watchers, *self._passing.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, name: str, provider: Watches) -> None:
        while True:
            try:
                async for owner in provider.changes():
                    self._note(owner)
                log.warning("a provider stopped watching", provider=name)
            except MoorageError as error:
                log.warning("a provider can't watch", provider=name, reason=error.reason)
            except Exception:
                log.exception("a provider's watcher fell over", provider=name)
            await asyncio.sleep(PAUSE)

    def _note(self, owner: str) -> None:
        if owner in self._passing:
            self._pending.add(owner)
        else:
            self._passing[owner] = asyncio.create_task(self._pass_on(owner))

    async def _pass_on(self, owner: str) -> None:
        try:
            while True:
                self._pending.discard(owner)
                try:
                    await self._changed(owner)
                except Exception:
                    # Only a hint is lost: the timer sees the change, later.
                    log.exception("a hint was lost", cluster=owner)
                await asyncio.sleep(self._gap)
                if owner not in self._pending:
                    return
        finally:
            del self._passing[owner]
            self._pending.discard(owner)
