"""PostgreSQL: any number of processes beside each other.

**Reads** go over connections that stay checked out, each its statement's own transaction
(AUTOCOMMIT), so that a select by key is one round trip. A connection that the server has
closed is noticed by its use, and the read is tried once more over a new one.

**Writes** are one transaction each, SERIALIZABLE unless asked otherwise. Where two meet,
PostgreSQL lets one go on and fails the other, which begins again after a pause; what
relies on a check (a quota, a name) thus holds with several processes, without our locks.
While tables are small everybody meets everybody, for what PostgreSQL remembers of a read is
then the table. So a process that has met another stands in line for a while with all that it
writes: of those that have, no two meet again, and who meets nobody never waits.
A process has one such write under way at a time, so that it never meets itself: 24 tasks
that add clusters get 317/s so, each at the first attempt, and 185/s in 1.7 attempts with
four at a time; three processes together 205/s and 109/s. A write whose connection breaks
is tried again, unless that happens while it commits: then nobody knows whether it was
committed, and the reason says so.

**Hints** travel by LISTEN/NOTIFY over a connection of their own: `notifications.py`.

**Silence.** The server bounds statements and locks, for as long as it is there. One whose
machine lost power, or to which a firewall dropped the connection, says nothing at all any
more. So each wait has a bound here as well: for a place, for a new connection, and for a
transaction (`_bounded`), after which its connection is ended without a word to the server.
Idle ones the kernel asks (`keepalive.py`), so that they are not found dead by their use.

**Migrations** hold an advisory lock: of two processes that open together, the second waits
and finds nothing to do. They alone take as long as they take.

Why asyncpg, under SQLAlchemy's asyncio engine: one select by key (14 columns) from one
process on two cores shared with the server, uvloop, one caller / eight callers:

    asyncpg, connection kept         175 µs, 5,500/s  /  8,900/s     (as here)
    asyncpg, SQLAlchemy's pool       290 µs, 3,300/s  /  5,100/s
    psycopg 3 (C), connection kept   195 µs, 4,800/s  /  5,200/s
    psycopg 3 (C), SQLAlchemy's pool 350 µs, 2,800/s  /  3,300/s
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import asyncpg
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from moorage.metrics.backends import WRITE_RETRIES, timed_write
from moorage.model.errors import RetryLater
from moorage.store.documents import from_text
from moorage.store.engine import Isolation
from moorage.store.hints import Hints
from moorage.store.keepalive import keep_alive
from moorage.store.migrate import migrate
from moorage.store.notifications import Notifications
from moorage.store.refusals import Server, sqlstate

T = TypeVar("T")
READERS = 6
WRITERS = {Isolation.SERIALIZABLE: 1, Isolation.READ_COMMITTED: 3}
"""Connections of this process at the most, by what they are for."""
ATTEMPTS = 12
"""How often a transaction that meets others is begun."""
LINE = "LOCK TABLE alembic_version IN SHARE UPDATE EXCLUSIVE MODE"
"""To stand in line: that mode keeps out itself, and neither reads nor writes. LOCK is the one
statement that waits before a serialisable transaction has seen anything
(https://www.postgresql.org/docs/current/sql-lock.html), and its end is the transaction's."""
LINE_SECONDS = 1.0
"""How long a process that met another goes on to stand in line."""
PAUSE_SECONDS = 0.002
"""Before the second attempt, at random up to this; it doubles with each."""
LONGEST_PAUSE_SECONDS = 0.25
CONNECT_SECONDS = 10.0
"""For a new connection, and once more for what SQLAlchemy asks it first."""
ANSWER_SECONDS = 15.0
"""For a transaction, and for a place: longer than the server lets any statement take."""
GOODBYE_SECONDS = 2.0
"""For all connections to be closed as the server likes it."""
MIGRATION_LOCK = 0x6D6F6F72
"""Of this database's advisory locks, the one that a migration holds ("moor")."""
MIGRATION_WAIT = "60s"
SESSION = {
    "application_name": "moorage",
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "5s",  # a paused process holds its locks no longer
    "jit": "off",  # our statements are short: compiling one takes longer than running it
}
MEETINGS = {
    "40001",  # serialization_failure
    "40P01",  # deadlock_detected
    # A serialisable transaction that checked first can still hear of the one it met in
    # these words; run again, its check finds the row and says it in ours.
    "23505",  # unique_violation
    "23503",  # foreign_key_violation
}


class PostgresDatabase:
    """A `Database`. To be used from the event loop that opened it."""

    def __init__(self, url: str) -> None:
        self._dsn = "postgresql://" + url.partition("://")[2]
        self._opened = _Opened()
        self._engine = engine = _engine(self._dsn, self._opened)
        self._server = Server.of(url)
        self._readers = _Readers(engine, self._server)
        self._writers = {
            isolation: engine.execution_options(isolation_level=isolation.value)
            for isolation in Isolation
        }
        self._free = {isolation: asyncio.Semaphore(most) for isolation, most in WRITERS.items()}
        self._crowded_until = 0.0
        self._under_way: set[asyncio.Task[object]] = set()
        self._notifications: Notifications | None = None

    @classmethod
    async def open(cls, url: str, *, migrating: bool = True) -> PostgresDatabase:
        """Connect, and migrate if `migrating`. `url` is a connection URI as psql takes it.

        Raises Refused for a wrong user, password or database, and for tables of a newer
        Moorage; RetryLater where the server can't be reached or takes no more connections.
        """
        database = cls(url)
        try:
            async with database._writers[Isolation.READ_COMMITTED].connect() as connection:
                if migrating:
                    await connection.run_sync(_migrate)
        except BaseException as error:
            await database.close()
            if isinstance(error, Exception):
                database._server.refuse(error)
            raise
        return database

    async def carry(self, hints: Hints) -> None:
        self._notifications = Notifications(self._dsn, hints.hear)
        hints.pass_on = self._notifications.tell
        await self._notifications.tried.wait()

    async def read(self, work: Callable[[Connection], T]) -> T:
        try:
            try:
                return await self._readers.run(work)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            return await self._readers.run(work)
        except Exception as error:
            self._server.refuse(error)
            raise

    @timed_write
    async def write(
        self,
        work: Callable[[Connection], T],
        then: Callable[[T], object] | None = None,
        *,
        isolation: Isolation = Isolation.SERIALIZABLE,
        durable: bool = True,  # noqa: ARG002 -- a token that a crash takes back would fence nobody
    ) -> T:
        async def run() -> T:
            try:
                async with _place(self._free[isolation], self._server):
                    result = await self._committed(work, isolation)
            except Exception as error:
                self._server.refuse(error)
                raise
            if then is not None:
                then(result)
            return result

        task = asyncio.create_task(run())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _committed(self, work: Callable[[Connection], T], isolation: Isolation) -> T:
        """Begin the transaction until it is committed, or fails by itself."""
        pause = PAUSE_SECONDS
        for attempts_left in reversed(range(ATTEMPTS)):
            in_line = isolation is Isolation.SERIALIZABLE and monotonic() < self._crowded_until
            transaction = partial(_transaction, work=work, in_line=in_line)
            try:
                async with self._writers[isolation].connect() as connection:
                    return await connection.run_sync(_bounded, transaction, self._server)
            except DBAPIError as error:
                met = sqlstate(error) in MEETINGS
                if met:
                    self._crowded_until = monotonic() + LINE_SECONDS
                if not attempts_left or not (met or error.connection_invalidated):
                    raise
            WRITE_RETRIES.inc()
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 -- no secret
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        if self._under_way:
            await asyncio.wait(self._under_way)
        if self._notifications is not None:
            await self._notifications.close()
        await self._readers.close()
        timer = asyncio.get_running_loop().call_later(GOODBYE_SECONDS, self._opened.end)
        await self._engine.dispose()
        timer.cancel()


class _Readers:
    """Connections that stay checked out: fetching one from the pool costs half a read."""

    def __init__(self, engine: AsyncEngine, server: Server) -> None:
        self._server = server
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._free = asyncio.Semaphore(READERS)
        self._idle: list[AsyncConnection] = []

    async def run(self, work: Callable[[Connection], T]) -> T:
        async with _place(self._free, self._server):
            connection = self._idle.pop() if self._idle else await self._engine.connect()
            try:
                result = await connection.run_sync(_bounded, work, self._server)
            except BaseException as error:
                if not isinstance(error, Exception):
                    # Cancelled: its answer may still be on the way.
                    await _discard(connection)
                elif connection.invalidated:
                    # What closed one has most likely closed them all.
                    idle, self._idle = self._idle, []
                    await _discard(connection, *idle)
                else:
                    self._idle.append(connection)
                raise
            self._idle.append(connection)
            return result

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().close()


@asynccontextmanager
async def _place(free: asyncio.Semaphore, server: Server) -> AsyncIterator[None]:
    """One of so many connections, waited for with a bound. Raises RetryLater."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await free.acquire()
    except TimeoutError:
        raise RetryLater(
            f"{server.at} does not keep up: no connection was free within {ANSWER_SECONDS:g} s.",
            delay=2.0,
        ) from None
    try:
        yield
    finally:
        free.release()


async def _discard(*connections: AsyncConnection) -> None:
    """Without a word to the server, for it may not be there to hear it."""
    for connection in connections:
        if not connection.invalidated:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            driver.terminate()
            await connection.invalidate()
        await connection.close()


class _Opened:
    """The connections that there are."""

    def __init__(self) -> None:
        self._timers: WeakKeyDictionary[Any, asyncio.TimerHandle] = WeakKeyDictionary()

    def add(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """It ends by itself in CONNECT_SECONDS, unless it is `ready` by then."""
        loop = asyncio.get_running_loop()
        self._timers[connection] = loop.call_later(CONNECT_SECONDS, connection.terminate)

    def ready(self, connection: Any) -> None:
        self._timers[connection].cancel()

    def end(self) -> None:
        """All of them, without a word to the server."""
        for connection in list(self._timers):
            connection.terminate()


def _engine(dsn: str, opened: _Opened) -> AsyncEngine:
    async def connect() -> asyncpg.Connection[asyncpg.Record]:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS, server_settings=SESSION)
        keep_alive(connection)
        opened.add(connection)
        return connection

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=READERS + sum(WRITERS.values()),
        max_overflow=0,
        json_deserializer=from_text,
        hide_parameters=True,  # sealed keys are among them, and errors are logged
    )
    # Listeners are called in their order, and SQLAlchemy's own, which ask the server, come first.
    event.listen(
        engine.sync_engine, "connect", lambda adapted, _: opened.ready(adapted.driver_connection)
    )
    return engine


def _bounded(connection: Connection, work: Callable[[Connection], T], server: Server) -> T:
    """`work`, in ANSWER_SECONDS at the most. Raises RetryLater.

    Past them the connection is ended under whatever waits for it, which fails as where the
    server had closed it. To cancel the task would leave the connection in a state that only
    the server could tell, and asyncpg waiting for its word.
    """
    driver: Any = connection.connection.driver_connection
    late = False

    def end() -> None:
        nonlocal late
        late = True
        driver.terminate()

    timer = asyncio.get_running_loop().call_later(ANSWER_SECONDS, end)
    try:
        return work(connection)
    except DBAPIError as error:
        if late and error.connection_invalidated:
            raise RetryLater(
                f"{server.at} gave no answer within {ANSWER_SECONDS:g} s.", delay=2.0
            ) from error
        raise
    finally:
        timer.cancel()


def _transaction(connection: Connection, work: Callable[[Connection], T], in_line: bool) -> T:
    transaction = connection.begin()
    try:
        if in_line:
            connection.exec_driver_sql(LINE)
        result = work(connection)
    except BaseException:
        transaction.rollback()
        raise
    try:
        transaction.commit()
    except DBAPIError as error:
        if error.connection_invalidated:
            raise RetryLater(
                "The connection to the database broke during a commit: what was asked for "
                "may have been done. Look before asking again."
            ) from error
        raise
    return result


def _migrate(connection: Connection) -> None:
    with connection.begin():
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{MIGRATION_WAIT}'")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        migrate(connection)
