"""What the local provider notices by itself, of a process and a file system that are the test's."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from moorage.providers.local import disk
from moorage.providers.local.runtime import Init
from moorage.providers.local.watch import Watch


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as made:
        yield made
        made.kill()


async def test_a_process_that_ends_and_nothing_else_is_told(
    child: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    watch = Watch(disk_seconds=0.01)
    watch.over("web", Init(child.pid, 0, created_only=False, group=tmp_path), tmp_path)
    async with aclosing(watch.changes()) as changes:
        told = asyncio.ensure_future(anext(changes))
        assert (await asyncio.wait([told], timeout=0.1))[1], "told for nothing"
        child.kill()
        assert await asyncio.wait_for(told, 5) == "web"


async def test_guards_that_are_lost_and_come_back_are_told_once_each(
    child: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ""
    monkeypatch.setattr(disk, "trouble", lambda _: "full, and that is known")

    async def guards() -> str:
        return said

    watch = Watch(disk_seconds=0.01)
    init = Init(child.pid, 0, created_only=False, group=tmp_path)
    watch.over("web", init, tmp_path, guards)
    async with aclosing(watch.changes()) as changes:
        for said in ("the packet filter lost its rules", ""):  # noqa: B007 -- `guards` reads it
            assert await asyncio.wait_for(anext(changes), 5) == "web"
        told = asyncio.ensure_future(anext(changes))
        assert (await asyncio.wait([told], timeout=0.1))[1], "told again"
        child.kill()
        await told


async def test_a_disk_that_fills_and_empties_is_told_once_each(
    child: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ""
    monkeypatch.setattr(disk, "trouble", lambda root: said if root == tmp_path else "elsewhere")
    watch = Watch(disk_seconds=0.01)
    watch.over("web", Init(child.pid, 0, created_only=False, group=tmp_path), tmp_path)
    async with aclosing(watch.changes()) as changes:
        for said in ("full", ""):  # noqa: B007 -- the lambda reads it
            assert await asyncio.wait_for(anext(changes), 5) == "web"
        told = asyncio.ensure_future(anext(changes))
        assert (await asyncio.wait([told], timeout=0.1))[1], "told again"
        child.kill()
        await told
