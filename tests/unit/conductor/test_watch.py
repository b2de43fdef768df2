from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from moorage.conductor import watch
from moorage.conductor.watch import Watch
from moorage.model.errors import RetryLater
from moorage.model.ports import NodeProvider
from moorage.providers.fake import FakeProvider


class Told:
    """Collects hints, and lets a test wait for the next one."""

    def __init__(self) -> None:
        self.owners: list[str] = []
        self._new: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, owner: str) -> None:
        self.owners.append(owner)
        self._new.put_nowait(owner)

    async def next(self) -> str:
        async with asyncio.timeout(5):
            return await self._new.get()


@asynccontextmanager
async def watching(provider: NodeProvider, told: Told, gap: float) -> AsyncIterator[None]:
    task = asyncio.create_task(Watch({"fake": provider}, told, gap=gap).run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_the_first_change_at_once_the_rest_together() -> None:
    provider, told = FakeProvider(), Told()
    async with watching(provider, told, gap=0.5):
        for _ in range(100):
            provider._tell("a")
        assert await told.next() == "a"
        for _ in range(100):
            provider._tell("a")
        provider._tell("b")
        assert await told.next() == "b"
        assert await told.next() == "a"
    assert told.owners == ["a", "b", "a"]


async def test_a_watcher_that_falls_over_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Shaky(FakeProvider):
        falls = 2

        async def changes(self) -> AsyncIterator[str]:
            if self.falls:
                self.falls -= 1
                raise RetryLater("no events") if self.falls else OSError("gone")
            yield "a"

    monkeypatch.setattr(watch, "PAUSE", 0.001)
    told = Told()
    async with watching(Shaky(), told, gap=0.0):
        assert await told.next() == "a"


async def test_a_hint_that_fails_is_not_the_end() -> None:
    provider, told = FakeProvider(), Told()

    class Failing(Told):
        async def __call__(self, owner: str) -> None:
            await told(owner)
            raise RetryLater("the disk is full")

    async with watching(provider, Failing(), gap=0.0):
        provider._tell("a")
        await told.next()
        await asyncio.sleep(0.001)
        provider._tell("a")
        await told.next()
    assert told.owners == ["a", "a"]
