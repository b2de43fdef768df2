from __future__ import annotations

import asyncio

from moorage.model.template import ClusterTemplate
from moorage.store import Hints, Store
from tests.unit.store.conftest import a_cluster, added, sized, wanted

LONG = 30.0


async def ready(hints: Hints) -> None:
    assert await hints.wait(LONG), "a task's first wait returns at once"


async def test_a_wait_without_hints_ends_with_its_timeout() -> None:
    hints = Hints()
    await ready(hints)
    assert not await hints.wait(0.01)


async def test_a_hint_between_the_look_and_the_wait_is_not_lost() -> None:
    hints = Hints()
    await ready(hints)
    hints.give()
    async with asyncio.timeout(1):
        assert await hints.wait(LONG)
    assert not await hints.wait(0.01), "one hint was heard twice"


async def test_a_hint_wakes_everyone_who_waits() -> None:
    hints = Hints()
    asleep = asyncio.Semaphore(0)

    async def worker() -> bool:
        await ready(hints)
        asleep.release()
        return await hints.wait(LONG)

    tasks = [asyncio.create_task(worker()) for _ in range(5)]
    for _ in tasks:
        await asleep.acquire()
    await asyncio.sleep(0)
    hints.give()
    async with asyncio.timeout(1):
        assert all(await asyncio.gather(*tasks))


async def test_a_hint_of_something_later_wakes_then() -> None:
    hints = Hints()
    await ready(hints)
    start = asyncio.get_running_loop().time()
    hints.give(0.05)
    assert await hints.wait(LONG)
    assert 0.04 <= asyncio.get_running_loop().time() - start < LONG


async def test_who_wakes_earlier_is_left_alone() -> None:
    hints = Hints()
    await ready(hints)
    hints.give(LONG)
    assert not await hints.wait(0.01)


async def test_waiting_without_a_timeout_and_being_cancelled() -> None:
    hints = Hints()

    async def forever() -> None:
        await ready(hints)
        await hints.wait(None)

    task = asyncio.create_task(forever())
    await asyncio.sleep(0)
    hints.give()
    async with asyncio.timeout(1):
        await task


async def test_what_is_due_hints_after_its_commit(store: Store, template: ClusterTemplate) -> None:
    await ready(store.hints)
    cluster = await added(store, a_cluster(template))
    assert await store.hints.wait(0)
    await wanted(store, cluster.uuid, lambda c: sized(c, 3))
    assert await store.hints.wait(0)
    claim = await store.claims.take("w", 30)
    assert claim is not None
    assert not await store.hints.wait(0)
    await store.claims.apply(claim, claim.cluster, 0)
    assert await store.hints.wait(0)


async def test_a_cancelled_request_that_was_committed_still_hints(
    store: Store, template: ClusterTemplate
) -> None:
    await ready(store.hints)
    request = asyncio.create_task(added(store, a_cluster(template)))
    await asyncio.sleep(0)
    request.cancel()
    async with asyncio.timeout(5):
        assert await store.hints.wait(LONG)
    assert await store.claims.take("w", 30) is not None
