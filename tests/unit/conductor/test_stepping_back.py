"""Conductors on several machines, some of them full."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from moorage.conductor import loop
from moorage.model.page import Page
from moorage.providers.fake import KnowsItsRoom
from moorage.store import EVERYTHING, Store
from tests.unit.conductor.house import House, open_store


class Bound(KnowsItsRoom):
    def __init__(self, home: str, room: int) -> None:
        super().__init__(room=room)
        self.home = home


@pytest.fixture
async def other(store: Store, tmp_path: Path) -> AsyncIterator[Store]:
    """As another process has it, whose hints are lost."""
    opened = await open_store(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOOK", 0.02)


@pytest.mark.parametrize("room", [2, 0])
async def test_a_create_goes_where_there_is_room_or_fails_with_the_last_reason(
    store: Store, other: Store, room: int
) -> None:
    full, second = House(store, Bound("one/a", 0)), House(other, Bound("two/a", room))
    await store.homes.beat("two/a")
    cluster = await full.add(masters=1, workers=1)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(full.conducted(alone=False, home="one/a"))
        await full.chronicle.until(lambda: bool(full.chronicle.takes))
        await stack.enter_async_context(second.conducted(alone=False, home="two/a"))
        status = "CREATE_COMPLETE" if room else "CREATE_FAILED"
        shown = await second.until_status(cluster.uuid, status)
    assert full.chronicle.takes == [cluster.uuid], "it is asked once"
    assert full.chronicle.applied == []
    if not room:
        assert "no room: 2 nodes asked for, 0 of 0 left" in (shown.status_reason or "")
        assert "another machine" not in (shown.status_reason or "")
    story = await store.events.list(cluster.uuid, EVERYTHING, Page())
    stepped = [e for e in story if e.what.endswith("another machine is asked") and not e.ok]
    assert len(stepped) == 1


async def test_what_is_there_already_stays_at_home(store: Store) -> None:
    """Its nodes are here: a machine that has no room for more of them is no reason to leave."""
    house = House(store, Bound("one/a", 2))
    await store.homes.beat("two/a")
    cluster = await house.add(masters=1, workers=1)
    async with house.conducted(alone=False, home="one/a"):
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
        await house.wish(cluster.uuid, "UPDATE_IN_PROGRESS", workers=2)
        await house.until_status(cluster.uuid, "UPDATE_FAILED")
    home = await store.homes.of(cluster.uuid)
    assert home is not None
    assert home.name == "one/a"
