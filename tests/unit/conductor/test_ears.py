"""Engines that tell by themselves: a hint at most, whatever they tell."""

from __future__ import annotations

import asyncio
import gc
import itertools
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from moorage.conductor import ears as module
from moorage.conductor.ears import Ears
from moorage.drivers.fake import FakeDriver
from moorage.model.cluster import ClusterSpec
from moorage.model.errors import RetryLater
from moorage.model.node import NodeRef, NodeState, ObservedNode, Role
from moorage.model.ports import CaKeys, Hears
from moorage.store import Store
from moorage.trust import ClusterAuthority, new_ca
from tests import made
from tests.unit.conductor.house import House

AUTHORITY = ClusterAuthority(CaKeys(new_ca("c")))
GAP = 0.05


class Tells(FakeDriver):
    """An engine of which a test decides what it tells; `stories` counts its streams."""

    def __init__(self) -> None:
        self.stories = 0
        self.begun = asyncio.Event()
        self.ends = asyncio.Event()
        self.news = asyncio.Event()
        self.floods = False
        self.breaks: Exception | None = None

    async def changes(
        self, cluster: ClusterSpec, nodes: Mapping[str, ObservedNode]
    ) -> AsyncGenerator[None]:
        del cluster
        self.stories += 1
        self.begun.set()
        if self.breaks:
            raise self.breaks
        while self.floods:
            yield
        while not self.ends.is_set():
            await self.news.wait()
            self.news.clear()
            if not self.ends.is_set():
                yield


class Told:
    def __init__(self) -> None:
        self.count = 0
        self._new = asyncio.Condition()

    async def __call__(self, uuid: str) -> None:
        async with self._new:
            self.count += 1
            self._new.notify_all()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5), self._new:
            await self._new.wait_for(lambda: self.count >= count)


def spec(uuid: str = "a") -> ClusterSpec:
    return made.spec(AUTHORITY, uuid=uuid)


NODES = {"master-0": ObservedNode(NodeRef("a", "master-0"), Role.MASTER, NodeState.RUNNING)}


@asynccontextmanager
async def listening(told: Told, **options: float) -> AsyncIterator[Ears]:
    ears = Ears(told, **{"gap": GAP, "longest": 1.0, **options})  # type: ignore[arg-type]
    try:
        yield ears
    finally:
        await ears.aclose()


def test_having_it_is_the_capability() -> None:
    assert isinstance(Tells(), Hears)
    assert not isinstance(FakeDriver(), Hears)


async def test_news_is_a_hint_and_one_stream_goes_on() -> None:
    told, driver = Told(), Tells()
    async with listening(told) as ears:
        for number in (1, 2, 3):
            ears.heed(driver, spec(), NODES, vain=False)
            driver.news.set()
            await told.until(number)
        assert (driver.stories, ears.heard) == (1, 1)
        ears.forget("a")
        assert ears.heard == 0


async def test_a_flood_is_a_hint_a_pause_and_pauses_grow_while_hints_are_in_vain() -> None:
    told, driver = Told(), Tells()
    driver.floods = True
    loop = asyncio.get_running_loop()
    async with listening(told) as ears:
        ears.heed(driver, spec(), NODES, vain=True)
        times = []
        for number in range(1, 6):
            await told.until(number)
            times.append(loop.time())
            ears.heed(driver, spec(), NODES, vain=True)
        waits = [after - before for before, after in itertools.pairwise(times)]
        assert waits[0] >= 2 * GAP * 0.9
        assert waits[3] >= 16 * GAP * 0.9
        ears.heed(driver, spec(), NODES, vain=False)
        assert driver.stories == 1


async def test_a_stream_that_ends_is_a_sign_and_only_a_turn_begins_it_again() -> None:
    told, driver = Told(), Tells()
    async with listening(told) as ears:
        ears.heed(driver, spec(), NODES, vain=False)
        driver.ends.set()
        driver.news.set()
        await told.until(1)
        assert (driver.stories, ears.heard) == (1, 0)
        ears.heed(driver, spec(), NODES, vain=True)
        await told.until(2)
        assert driver.stories == 2


@pytest.mark.parametrize("error", [RetryLater("no engine"), KeyError("a bug")])
async def test_one_that_breaks_off_again_and_again_is_asked_ever_more_rarely(
    error: Exception,
) -> None:
    told, driver = Told(), Tells()
    driver.breaks = error
    loop = asyncio.get_running_loop()
    async with listening(told) as ears:
        began = loop.time()
        for number in range(1, 5):
            ears.heed(driver, spec(), NODES, vain=True)
            await told.until(number)
        assert loop.time() - began >= (2 + 4 + 8) * GAP * 0.9


async def test_other_nodes_or_another_ca_are_another_stream() -> None:
    told, driver = Told(), Tells()
    async with listening(told) as ears:
        ears.heed(driver, spec(), NODES, vain=False)
        await asyncio.sleep(0.01)
        ears.heed(driver, spec(), NODES, vain=False)
        await asyncio.sleep(0.01)
        assert driver.stories == 1
        ears.heed(driver, spec(), {}, vain=False)
        await asyncio.sleep(0.01)
        other = made.spec(ClusterAuthority(CaKeys(new_ca("c"))), uuid="a")
        ears.heed(driver, other, {}, vain=False)
        await asyncio.sleep(0.01)
        assert (driver.stories, ears.heard) == (3, 1)


async def test_there_are_so_many_at_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    told, driver = Told(), Tells()
    async with listening(told, most=2) as ears:
        for uuid in ("a", "b", "c"):
            ears.heed(driver, spec(uuid), NODES, vain=False)
        assert ears.heard == 2
        monkeypatch.setattr(module, "LASTING", -1.0)
        ears.heed(driver, spec("b"), NODES, vain=False)
        assert ears.heard == 0, "who had no turn for long is forgotten"


async def test_the_conductor_listens_to_clusters_that_are_whole(store: Store) -> None:
    driver = Tells()
    house = House(store, driver=driver)
    cluster = await house.add(workers=1)
    async with house.conducted() as conductor:
        await house.until_status(cluster.uuid, "CREATE_COMPLETE")
        async with asyncio.timeout(5):
            await driver.begun.wait()
        turns = len(house.chronicle.applied)
        driver.news.set()
        await house.chronicle.until(lambda: len(house.chronicle.applied) > turns)
        await house.wish(cluster.uuid, "DELETE_IN_PROGRESS")
        await house.until_gone(cluster.uuid)
    assert conductor._ears.heard == 0
    assert driver.stories == 1


async def test_the_key_of_the_ca_is_not_kept_while_a_stream_lasts() -> None:
    driver = Tells()
    async with listening(Told()) as ears:
        cluster = made.spec(ClusterAuthority(CaKeys(new_ca("c"))), uuid="a")
        kept = weakref.ref(cluster.authority)
        ears.heed(driver, cluster, NODES, vain=False)
        async with asyncio.timeout(5):
            await driver.begun.wait()
        del cluster
        gc.collect()
        assert kept() is None
        assert ears.heard == 1
