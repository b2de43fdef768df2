"""Hints between processes, over PostgreSQL's LISTEN and NOTIFY.

Each process has one connection of its own for this, which listens and tells. A hint
is told after the commit that it is about, in a transaction of its own: a NOTIFY holds
a lock of the whole server from its pre-commit to the end of its commit (PostgreSQL's
`async.c`, PreCommit_Notify), so that within the writing transactions it would make all
of them wait for each other's sync. Here it syncs nothing (`synchronous_commit=off`). Three
processes of three tasks each that update rows got 540 to 1,200 commits/s so, and 350 to 930
with the NOTIFY within (on two busy cores; in each round 0.5 to 0.8 of the former).

A burst of hints is one notification, of the earliest of them: whoever looks then, sees
all that was committed before. They are GAP apart at the least; and what falls due later
than LAZY can wait so long for company, since each conductor's own timer knows its own rows.

The connection is made again, with backoff, whenever it breaks, and asked whether it is
still there when nothing was told for a while. Whoever connects anew has missed what was
told meanwhile, and so hears a hint.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Callable

import asyncpg
import structlog

from moorage.store.keepalive import keep_alive

log = structlog.get_logger(__name__)

CHANNEL = "moorage"
"""Notifications stay within their database."""
GAP = 0.02
"""Seconds between two notifications of one process."""
LAZY = 1.0
ASK_SECONDS = 10.0
"""After so long without a word the connection is asked whether it is there."""
ANSWER_SECONDS = 5.0
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Between two attempts to connect, in seconds; the pause doubles."""
LAST_WORDS_SECONDS = 1.0
SESSION = {
    "application_name": "moorage hints",
    "statement_timeout": "5s",
    "synchronous_commit": "off",
    "jit": "off",
}


class Notifications:
    """Tells other processes what is due, and calls `hear(due_in)` for what they tell.

    To be made on the event loop; it runs until it is closed. `tried` is set once it listens,
    or has failed to for the first time.
    """

    def __init__(self, dsn: str, hear: Callable[[float], None]) -> None:
        self._dsn = dsn
        self._hear = hear
        self._due = math.inf
        """The earliest time (of the loop) at which something untold falls due."""
        self._tell_at = math.inf
        self._changed = asyncio.Event()
        self._told = asyncio.Event()
        self.tried = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def tell(self, due_in: float) -> None:
        """Something was committed that falls due in `due_in` seconds."""
        now = asyncio.get_running_loop().time()
        self._due = min(self._due, now + due_in)
        at = now if due_in < LAZY else now + LAZY
        if at < self._tell_at:
            self._tell_at = at
            self._changed.set()

    async def close(self) -> None:
        """Ends it; what is untold by then is told if that takes no time."""
        if self._due < math.inf:
            self._told.clear()
            self._tell_at = -math.inf
            self._changed.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_SECONDS):
                    await self._told.wait()
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                connection = await asyncpg.connect(
                    self._dsn,
                    timeout=ANSWER_SECONDS,
                    command_timeout=ANSWER_SECONDS,
                    server_settings=SESSION,
                )
                keep_alive(connection)
                try:
                    await connection.add_listener(CHANNEL, self._heard)
                    connection.add_termination_listener(lambda _: self._changed.set())
                    self._hear(0.0)
                    self.tried.set()
                    pause = FIRST_PAUSE
                    await self._converse(connection)
                finally:
                    connection.terminate()
                reason = "the server closed the connection"
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                reason = type(error).__name__
            except Exception:
                log.exception("hints of other processes: a bug")
                reason = "a bug"
            self.tried.set()
            log.warning("hints do not reach other processes for now", reason=reason)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 -- no secret
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _converse(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Tell what there is to tell, until the connection is closed."""
        loop = asyncio.get_running_loop()
        while await self._awaited(connection):
            due, self._due, self._tell_at = self._due, math.inf, math.inf
            try:
                if due < math.inf:
                    due_in = max(0.0, due - loop.time())
                    await connection.execute(
                        "SELECT pg_notify($1, $2)", CHANNEL, f"{due_in:.3f}", timeout=ANSWER_SECONDS
                    )
                else:
                    await connection.execute("SELECT 1", timeout=ANSWER_SECONDS)
            except BaseException:
                self._due = min(self._due, due)
                self._tell_at = min(self._tell_at, loop.time())
                raise
            self._told.set()
            await asyncio.sleep(GAP)

    async def _awaited(self, connection: asyncpg.Connection[asyncpg.Record]) -> bool:
        """Wait for something to tell, or for too long a silence. False: it is closed."""
        loop = asyncio.get_running_loop()
        ask_at = loop.time() + ASK_SECONDS
        while not connection.is_closed():
            until = min(self._tell_at, ask_at)
            if until <= loop.time():
                return True
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
        return False

    def _heard(self, connection: object, pid: int, _channel: str, payload: object) -> None:
        if isinstance(connection, asyncpg.Connection) and pid == connection.get_server_pid():
            return  # our own
        try:
            due_in = max(0.0, float(str(payload)))
        except ValueError:
            due_in = 0.0  # whatever was meant: to look costs little
        self._hear(due_in)
