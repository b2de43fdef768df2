"""How the store talks to its database: whole transactions as plain functions.

A transaction is a synchronous function over a Connection:

    await database.write(lambda connection: connection.execute(...))

so nothing can be awaited within it, least of all the network, and the same function
runs on SQLite (`sqlite.py`) and on PostgreSQL (`postgres.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from moorage.store.hints import Hints

T = TypeVar("T")


class Isolation(StrEnum):
    """What a transaction sees of those beside it, where several can run at once.

    SERIALIZABLE: as if each had run alone. A check and the write that relies on it are one
    thing, whatever the check looked at; the price is that one of two that meet runs again.

    READ_COMMITTED: for a transaction whose only condition is on rows that it locks itself
    (`FOR UPDATE`, or one guarded UPDATE). It waits where the other kind would run again,
    and it alone can step over rows that others hold (`SKIP LOCKED`).
    """

    SERIALIZABLE = "SERIALIZABLE"
    READ_COMMITTED = "READ COMMITTED"


class Database(Protocol):
    """What the tables' rooms ask of a backend. For any number of tasks of one event loop."""

    async def read(self, work: Callable[[Connection], T]) -> T:
        """`work` only looks, and returns nothing that still hangs on the connection.

        Each of its statements sees what is committed when it begins. `work` may run twice:
        it must be pure but for its connection.
        """
        ...

    async def write(
        self,
        work: Callable[[Connection], T],
        then: Callable[[T], object] | None = None,
        *,
        isolation: Isolation = Isolation.SERIALIZABLE,
        durable: bool = True,
    ) -> T:
        """`work` in one transaction: committed, or rolled back if it raises.

        Where `durable` is false, a power cut may take the commit back, until the next durable
        one: for what a look at the world writes again. It saves the wait for the disk where
        this process and the database can only fail together; elsewhere it means nothing.

        `work` may run several times, of which one is committed, so it must be pure but for
        its connection: no counter moved, no list appended to, no hint given from within.

        `then` is called with the result after the commit, on the event loop, also where
        the caller was cancelled meanwhile: what must follow a commit, follows it.

        Raises RetryLater where the database is locked, full, busy or away; its reason says
        so where it is not known whether the transaction was committed.
        """
        ...

    async def carry(self, hints: Hints) -> None:
        """From now on bring the hints of this process to the others, and theirs here.

        Without a guarantee, and with nothing to do where one process is all there is.
        """
        ...

    async def close(self) -> None:
        """Waits for the writes under way. Closing twice is no error."""
        ...
