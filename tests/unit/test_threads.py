"""No thread outlives the call that waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from moorage.threads import to_its_end


class Work:
    """Something that blocks until it is let go, and then returns or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.began, self.go_on, self.ended = (threading.Event() for _ in range(3))
        self._error = error

    def __call__(self, answer: str) -> str:
        self.began.set()
        assert self.go_on.wait(10)
        self.ended.set()
        if self._error:
            raise self._error
        return answer


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not happened():  # noqa: ASYNC110 - a thread makes it happen
            await asyncio.sleep(0.001)


async def test_it_returns_and_raises_what_the_work_does() -> None:
    for error in (None, ValueError("no")):
        work = Work(error)
        work.go_on.set()
        if error is None:
            assert await to_its_end(work, "yes") == "yes"
        else:
            with pytest.raises(ValueError, match="no"):
                await to_its_end(work, "yes")


@pytest.mark.parametrize("error", [None, ValueError("no")])
async def test_a_cancellation_waits_for_the_thread(error: Exception | None) -> None:
    work, lock = Work(error), asyncio.Lock()

    async def alone() -> str:
        async with lock:
            return await to_its_end(work, "yes")

    task = asyncio.create_task(alone())
    await until(work.began.is_set)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.01)
        assert lock.locked(), "let go while the thread works"
    work.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended.is_set()
    assert not lock.locked()


async def test_a_timeout_is_still_a_timeout() -> None:
    work = Work()
    asyncio.get_running_loop().call_later(0.05, work.go_on.set)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await to_its_end(work, "yes")
    assert work.ended.is_set()
