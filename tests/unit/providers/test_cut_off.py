"""A step of the local provider that is cut off in the middle, and tried again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from moorage.model.errors import RetryLater
from moorage.model.node import Flavor, NodeRef, NodeSpec, Role
from moorage.providers.local import bundle, userns
from moorage.providers.local.provider import LocalProvider
from moorage.providers.local.runtime import Init, Runc
from moorage.providers.local.slots import Slots
from tests.unit.test_threads import until

SPEC = NodeSpec("web", "worker-0", Role.WORKER, Flavor("tiny", 1, 256, 1, 64), "worker-0")


class NoNetwork:
    """A network that is there, and asks nothing of this machine."""

    def __getattr__(self, name: str) -> Any:
        async def act(*_: object) -> str:
            return ""

        return act

    def address(self, slot: int, index: int) -> str:
        return f"10.128.{slot}.{index + 2}"

    def endpoint(self, slot: int) -> str:
        return f"192.0.2.1:{20480 + slot}"

    def in_use(self, slot: int) -> bool:
        return True

    def attached(self, slot: int, index: int) -> bool:
        return True


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalProvider:
    """One whose nodes get as far as their roots: no runc is asked, and no other user needed."""

    @contextlib.asynccontextmanager
    async def lent(*_: object) -> AsyncIterator[None]:
        yield

    async def create(*_: object) -> Init:
        raise RetryLater("no runc here")

    monkeypatch.setattr(userns, "lent", lent)
    monkeypatch.setattr(Runc, "create", create)
    monkeypatch.setattr(os, "lchown", lambda *_: None)
    return LocalProvider(
        install="cutoff",
        nodes=tmp_path / "nodes",
        network=NoNetwork(),
        slots=Slots(tmp_path / "slots", taken=lambda _: False),
        memory_mib=1024,
    )


async def test_a_root_that_is_being_laid_is_nobody_elses(
    provider: LocalProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk is slow, its step runs out of time, and the next try comes at once."""
    slow, go_on = threading.Event(), threading.Event()
    synced: list[str] = []

    def sync(path: Path) -> None:
        synced.append(path.name)
        if len(synced) == 1:
            slow.set()
            assert go_on.wait(10)

    monkeypatch.setattr(bundle, "sync", sync)
    first = asyncio.create_task(provider.ensure(SPEC))
    await until(slow.is_set)
    first.cancel()
    second = asyncio.create_task(provider.ensure(SPEC))
    deleted = asyncio.create_task(provider.delete(NodeRef("web", "worker-0")))
    await asyncio.sleep(0.05)
    assert not (first.done() or second.done() or deleted.done())
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    with pytest.raises(RetryLater, match="no runc here"):
        await second
    await deleted
    assert synced == list(bundle.etc(SPEC, "")), "laid once, and whole"
    assert not (tmp_path / "nodes" / "web").exists()
