"""Wake-ups for those who wait for a row to fall due.

Each task that waits is remembered with the time until which it sleeps. A hint moves
that time forward, also while the task is busy elsewhere: nothing that is committed
between "there is nothing to take" and the wait is missed. Who already wakes earlier is
left alone, so that rows put off into the future wake nobody for nothing.

What is hinted here is told to other processes as well, where the database has a way to
do so (`notifications.py`). Hints save time; the timeout of `wait` gives the guarantee.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from weakref import WeakKeyDictionary


class _Sleeper:
    """One task's sleep: until when (event loop time), and a bell for when that moves."""

    def __init__(self) -> None:
        self.until = -math.inf
        self.moved = asyncio.Event()


class Hints:
    """Tells every waiting task that something is, or soon falls, due."""

    def __init__(self) -> None:
        self._sleepers: WeakKeyDictionary[asyncio.Task[object], _Sleeper] = WeakKeyDictionary()
        self.pass_on: Callable[[float], None] | None = None
        """Tells the other processes what is given here."""

    def give(self, due_in: float = 0.0) -> None:
        """A row was committed that falls due in `due_in` seconds."""
        self.hear(due_in)
        if self.pass_on is not None:
            self.pass_on(due_in)

    def hear(self, due_in: float) -> None:
        """As `give`, for what another process has committed: it is not passed on."""
        due = asyncio.get_running_loop().time() + due_in
        for sleeper in self._sleepers.values():
            if due < sleeper.until:
                sleeper.until = due
                sleeper.moved.set()

    async def wait(self, timeout: float | None) -> bool:
        """Until a hinted row is due (True), or `timeout` seconds passed (False).

        A hint that came since the calling task's last `wait` ended counts, so that a
        worker that takes until nothing is left and then waits can't miss one. A task's
        first wait returns at once. A wake-up says "look", not "it is yours".
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 -- a coroutine is run by a task
        sleeper = self._sleepers.setdefault(task, _Sleeper())
        patience = math.inf if timeout is None else loop.time() + timeout
        sleeper.until = min(sleeper.until, patience)
        try:
            while (now := loop.time()) < sleeper.until:
                sleeper.moved.clear()
                try:
                    async with asyncio.timeout(
                        None if sleeper.until == math.inf else sleeper.until - now
                    ):
                        await sleeper.moved.wait()
                except TimeoutError:
                    break
            return sleeper.until < patience
        finally:
            sleeper.until = math.inf
