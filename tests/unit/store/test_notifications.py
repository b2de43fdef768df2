"""Hints between processes: each store here has its own connections, as a process has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from moorage.model.template import ClusterTemplate
from moorage.store import Hints, Store, notifications
from moorage.store.notifications import Notifications
from moorage.trust.seal import Seal
from tests.postgres import PostgresServer
from tests.unit.store.conftest import a_cluster, added, sized, wanted

LONG = 30.0


@pytest.fixture
def backend() -> str:
    return "postgresql"


class Listener:
    """Notes what is heard."""

    def __init__(self) -> None:
        self.heard: list[float] = []
        self._news = asyncio.Event()

    def hear(self, due_in: float) -> None:
        self.heard.append(due_in)
        self._news.set()

    async def until(self, count: int) -> list[float]:
        async with asyncio.timeout(10):
            while len(self.heard) < count:
                self._news.clear()
                await self._news.wait()
        return self.heard


@pytest.fixture
async def listener(url: str) -> AsyncIterator[Listener]:
    """It has heard the one hint of having connected."""
    found = Listener()
    notified = Notifications(url, found.hear)
    await notified.tried.wait()
    assert await found.until(1) == [0.0]
    yield found
    await notified.close()


@pytest.fixture
async def teller(url: str) -> AsyncIterator[Notifications]:
    notified = Notifications(url, lambda _: None)
    await notified.tried.wait()
    yield notified
    await notified.close()


async def ready(hints: Hints) -> None:
    assert await hints.wait(LONG), "a task's first wait returns at once"


async def test_what_one_process_commits_another_hears(
    store: Store, other: Store, template: ClusterTemplate
) -> None:
    await ready(other.hints)
    assert not await other.hints.wait(0.1), "nothing is due"
    async with asyncio.timeout(2):
        cluster = await added(store, a_cluster(template))
        assert await other.hints.wait(LONG)
        claim = await other.claims.take("w", 30)
        assert claim is not None
        await wanted(store, cluster.uuid, lambda c: sized(c, 3))
        assert await other.hints.wait(LONG)
        assert not await other.claims.apply(claim, claim.cluster, 3600)
        taken = await store.claims.take("w", 30)
        assert taken is not None
        await store.claims.apply(taken, taken.cluster, 3600)
        await other.hints.wait(0)
        await store.claims.hasten(cluster.uuid)
        assert await other.hints.wait(LONG)


async def test_a_hint_of_something_later_wakes_others_then(store: Store, other: Store) -> None:
    await ready(other.hints)
    loop = asyncio.get_running_loop()
    start = loop.time()
    store.hints.give(0.5)
    async with asyncio.timeout(5):
        assert await other.hints.wait(LONG)
    assert loop.time() - start >= 0.5


async def test_who_tells_does_not_hear_itself(url: str, teller: Notifications) -> None:
    found = Listener()
    own = Notifications(url, found.hear)
    await found.until(1)
    own.tell(0.0)
    await own.close()
    teller.tell(0.0)
    assert len(found.heard) == 1


async def test_a_burst_is_few_notifications_and_the_last_of_it_is_told(
    listener: Listener, teller: Notifications
) -> None:
    for number in range(1000):
        teller.tell(60.0 - number / 20)
        if number % 100 == 0:
            await asyncio.sleep(0)
    teller.tell(0.0)
    await listener.until(2)
    await asyncio.sleep(3 * notifications.GAP)
    assert listener.heard[-1] == 0.0
    assert len(listener.heard) <= 4


async def test_what_is_due_much_later_waits_for_company(
    listener: Listener, teller: Notifications, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "LAZY", 0.2)
    for due_in in (50.0, 40.0, 45.0):
        teller.tell(due_in)
        await asyncio.sleep(2 * notifications.GAP)
    _, told = await listener.until(2)
    assert 39 < told < 40


async def test_nothing_that_is_untold_is_lost_with_the_process(
    listener: Listener, teller: Notifications
) -> None:
    teller.tell(0.0)
    await asyncio.sleep(0)
    teller.tell(0.0)
    teller.tell(20.0)
    await teller.close()
    heard = await listener.until(2)
    assert 0.0 in heard[1:]


async def test_a_connection_that_breaks_is_made_again_and_nothing_is_missed(
    postgres: PostgresServer,
    url: str,
    seal: Seal,
    store: Store,
    other: Store,
    template: ClusterTemplate,
) -> None:
    await ready(other.hints)
    await other.hints.wait(0.1)
    postgres.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'moorage hints'"
    )
    await added(store, a_cluster(template))
    async with asyncio.timeout(5):
        while await other.claims.take("w", 30) is None:
            assert await other.hints.wait(LONG)


async def test_words_that_are_not_ours_are_a_hint_to_look(
    postgres: PostgresServer, url: str, listener: Listener
) -> None:
    for said in ("", "soon", "nan", "-5", "1e400"):
        postgres.sql(f"NOTIFY moorage, '{said}'", url.rpartition("/")[2])
    await listener.until(6)
    hints = Hints()
    await ready(hints)
    for due_in in listener.heard:
        hints.hear(due_in)
    assert await hints.wait(0)
