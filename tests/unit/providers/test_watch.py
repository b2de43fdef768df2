"""What the local provider notices by itself, of a process and a file system that are the test's."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from moorage.providers.local.runtime import Init
from moorage.providers.local.watch import Watch


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as made:
        yield made
        made.kill()


@pytest.fixture
def init(child: subprocess.Popen[bytes], tmp_path: Path) -> Init:
    return Init(child.pid, 0, created_only=False, group=tmp_path)


class Node:
    """What looking at it finds: of its guards, and of its disk. `looked` is set by each look."""

    def __init__(self) -> None:
        self.guards = self.disk = ""
        self.looked = asyncio.Event()

    async def look(self) -> tuple[str, str]:
        self.looked.set()
        return self.guards, self.disk

    async def is_looked_at(self) -> None:
        """And what was found is compared."""
        for _ in range(2):
            self.looked.clear()
            async with asyncio.timeout(5):
                await self.looked.wait()


async def test_a_process_that_ends_and_nothing_else_is_told(
    child: subprocess.Popen[bytes], init: Init
) -> None:
    watch, node = Watch(look_seconds=0.01), Node()
    watch.over("web", init, node.look)
    async with aclosing(watch.changes()) as changes:
        told = asyncio.ensure_future(anext(changes))
        await node.is_looked_at()
        assert not told.done(), "told for nothing"
        child.kill()
        async with asyncio.timeout(5):
            assert await told == "web"


@pytest.mark.parametrize("kind", ["guards", "disk"])
async def test_trouble_that_comes_and_goes_is_told_once_each(
    child: subprocess.Popen[bytes], init: Init, kind: str
) -> None:
    watch, node = Watch(look_seconds=0.01), Node()
    watch.over("web", init, node.look)
    async with aclosing(watch.changes()) as changes:
        for said in ("12 MiB are left", ""):
            setattr(node, kind, said)
            async with asyncio.timeout(5):
                assert await anext(changes) == "web"
        told = asyncio.ensure_future(anext(changes))
        await node.is_looked_at()
        assert not told.done(), "told again"
        child.kill()
        await told


async def test_what_a_turn_saw_is_told_when_it_is_over_and_not_before(
    child: subprocess.Popen[bytes], init: Init
) -> None:
    """A turn saw a full disk between two looks, neither of which did."""
    watch, node = Watch(look_seconds=0.01), Node()
    watch.over("web", init, node.look)
    async with aclosing(watch.changes()) as changes:
        told = asyncio.ensure_future(anext(changes))
        await node.is_looked_at()
        watch.seen(init, ("", "its disk is full"))
        async with asyncio.timeout(5):
            assert await told == "web"

        node.guards, node.disk = "lost", "full by now"
        watch.seen(init, (node.guards, node.disk))
        told = asyncio.ensure_future(anext(changes))
        await node.is_looked_at()
        assert not told.done(), "the turn knows"
        child.kill()
        await told


async def test_a_node_that_cannot_be_looked_at_keeps_none_from_being_told(
    init: Init,
) -> None:
    watch, node = Watch(look_seconds=0.01), Node()

    async def fails() -> tuple[str, str]:
        raise ZeroDivisionError

    watch.over("bad", Init(os.getpid(), 0, created_only=False, group=init.group), fails)
    watch.over("web", init, node.look)
    async with aclosing(watch.changes()) as changes:
        node.disk = "full"
        async with asyncio.timeout(5):
            assert await anext(changes) == "web"
