"""A PostgreSQL that goes silent: nothing is refused, and nothing comes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
import uvloop
from sqlalchemy import Connection, insert

from moorage.model.errors import RetryLater
from moorage.model.page import Page
from moorage.model.quota import Resource
from moorage.model.template import ClusterTemplate
from moorage.store import EVERYTHING, Store, postgres
from moorage.store.engine import Database
from moorage.store.keepalive import keep_alive
from moorage.store.open import open_database
from moorage.store.tables import Instant, quotas
from moorage.trust.seal import Seal
from tests.postgres import PostgresServer
from tests.unit.store.conftest import a_cluster, a_template, added


@pytest.fixture
def backend() -> str:
    return "postgresql"


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = await open_database(url)
    yield opened
    await opened.close()


@pytest.fixture(name="server")
def _server(postgres: PostgresServer) -> PostgresServer:
    """Under a name that is not the module's."""
    return postgres


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for bound in ("CONNECT_SECONDS", "ANSWER_SECONDS", "GOODBYE_SECONDS"):
        monkeypatch.setattr(postgres, bound, 0.4)


@pytest.mark.usefixtures("impatient")
async def test_a_server_that_goes_silent_is_waited_for_with_a_bound(
    store: Store, template: ClusterTemplate, server: PostgresServer
) -> None:
    cluster = await added(store, a_cluster(template))
    await asyncio.gather(*(store.clusters.list(EVERYTHING, Page()) for _ in range(6)))
    with server.silent():
        async with asyncio.timeout(5):
            answers = await asyncio.gather(
                *(store.clusters.get(cluster.uuid, EVERYTHING) for _ in range(6)),
                *(store.templates.add(a_template()) for _ in range(2)),
                store.claims.next_due(),
                store.claims.take("w", 30),
                store.census.try_write(),
                return_exceptions=True,
            )
        assert all(isinstance(answer, RetryLater) for answer in answers), answers
        assert "gave no answer within 0.4 s" in str(answers[0])
    assert await store.clusters.get(cluster.uuid, EVERYTHING) == cluster
    await store.templates.add(a_template())
    assert await store.claims.take("w", 30) is not None


@pytest.mark.usefixtures("impatient")
async def test_a_commit_that_is_not_answered_may_have_been_done(
    database: Database, server: PostgresServer
) -> None:
    silence = contextlib.ExitStack()

    def work(connection: Connection) -> None:
        row = {"project_id": "ours", "resource": Resource.NODE.value, "hard_limit": 7}
        connection.execute(insert(quotas), [{**row, "created_at": Instant.now()}])
        silence.enter_context(server.silent())

    with silence:
        async with asyncio.timeout(5):
            with pytest.raises(RetryLater, match="may have been done"):
                await database.write(work)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("used", [True, False])
async def test_a_silent_server_keeps_nobody_from_closing(
    url: str, server: PostgresServer, used: bool
) -> None:
    database = await open_database(url)
    if used:
        await asyncio.gather(
            *(database.read(lambda c: c.exec_driver_sql("SELECT 1")) for _ in range(6))
        )
    with server.silent():
        async with asyncio.timeout(5):
            await database.close()


@pytest.mark.usefixtures("impatient")
async def test_a_silent_server_is_not_waited_for_at_the_start(
    url: str, server: PostgresServer, seal: Seal
) -> None:
    with server.silent():
        async with asyncio.timeout(5):
            with pytest.raises(RetryLater, match="can't be reached"):
                await Store.open(url, seal)


@pytest.mark.usefixtures("impatient")
async def test_a_server_that_goes_silent_right_after_the_login_is_no_exception(
    url: str, server: PostgresServer, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLAlchemy asks a new connection some things of its own."""
    silence = contextlib.ExitStack()
    connect = asyncpg.connect

    async def connected(*args: Any, **options: Any) -> Any:
        connection = await connect(*args, **options)
        silence.enter_context(server.silent())
        return connection

    monkeypatch.setattr(asyncpg, "connect", connected)
    with silence:
        async with asyncio.timeout(5):
            with pytest.raises(RetryLater, match="can't be reached"):
                await Store.open(url, seal)


@pytest.mark.usefixtures("impatient")
async def test_nobody_waits_for_a_place_for_ever(database: Database) -> None:
    writes = [database.write(lambda c: c.exec_driver_sql("SELECT pg_sleep(0.35)")) for _ in "123"]
    answers = await asyncio.gather(*writes, return_exceptions=True)
    assert "no connection was free within 0.4 s" in str(answers[2])


@pytest.mark.parametrize("loops", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_kernel_asks_whether_the_other_machine_is_there(
    url: str, loops: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def timeouts() -> tuple[bool, int]:
        connection = await asyncpg.connect(url)
        keep_alive(connection)
        sock = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        asks = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        bound = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        await connection.close()
        return bool(asks), bound

    with asyncio.Runner(loop_factory=loops) as runner:
        assert runner.run(timeouts()) == (True, 15_000)
