"""What only several processes and a server of its own bring: meetings, absences, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import Connection, func, insert, select, text

from moorage.model.cluster import Cluster
from moorage.model.errors import QuotaExceeded, Refused, RetryLater
from moorage.model.page import Page
from moorage.model.quota import Resource
from moorage.model.template import ClusterTemplate
from moorage.store import EVERYTHING, Scope, Store, postgres
from moorage.store.engine import Database, Isolation
from moorage.store.open import open_database
from moorage.store.tables import Instant, quotas
from moorage.trust.seal import Seal
from tests.postgres import PostgresServer
from tests.unit.store.conftest import a_cluster, a_template, added, sized, wanted


@pytest.fixture
def backend() -> str:
    return "postgresql"


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = await open_database(url)
    yield opened
    await opened.close()


@pytest.fixture
def stopped(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """The server, to be stopped by the test; it runs again afterwards."""
    yield postgres
    postgres.stop()
    postgres.start()


def a_quota(project: str) -> dict[str, object]:
    return {
        "project_id": project,
        "resource": Resource.NODE.value,
        "hard_limit": 7,
        "created_at": Instant.now(),
    }


class Together:
    """A check-then-write that stops between the two until the other has checked as well."""

    def __init__(self) -> None:
        self.checked = 0

    async def add_first(self, database: Database, project: str) -> bool:
        """Write a row where there is none. False where there was one."""

        def work(connection: Connection) -> bool:
            found = connection.scalar(select(func.count()).select_from(quotas))
            self.meet(connection)
            if found:
                return False
            connection.execute(insert(quotas), [a_quota(project)])
            return True

        return await database.write(work)

    def meet(self, connection: Connection) -> None:
        self.checked += 1
        # Only the first attempts of both wait for each other.
        while self.checked < 2:
            connection.exec_driver_sql("SELECT pg_sleep(0.005)")


async def test_of_two_that_check_and_write_one_passes(url: str) -> None:
    one, two = await open_database(url), await open_database(url)
    meeting = Together()
    results = await asyncio.gather(meeting.add_first(one, "a"), meeting.add_first(two, "b"))
    assert sorted(results) == [False, True]
    assert meeting.checked >= 3, "none of them ran again"
    await one.close()
    await two.close()


async def test_two_processes_never_pass_the_quota_together(
    store: Store, other: Store, template: ClusterTemplate
) -> None:
    limits = {Resource.CLUSTER: 3}
    results = await asyncio.gather(
        *(
            added(process, a_cluster(template, f"c{number}{place}"), limits)
            for number in range(5)
            for place, process in enumerate((store, other))
        ),
        return_exceptions=True,
    )
    made = [result for result in results if isinstance(result, Cluster)]
    assert len(made) == 3, results
    assert all(isinstance(result, Cluster | QuotaExceeded) for result in results), results


async def test_two_processes_take_each_row_once(
    store: Store, other: Store, template: ClusterTemplate
) -> None:
    made = [await added(store, a_cluster(template, f"c{number}")) for number in range(12)]
    found = await asyncio.gather(
        *((store, other)[number % 2].claims.take(f"w{number}", 30) for number in range(30))
    )
    taken = [claim.cluster.uuid for claim in found if claim is not None]
    assert len(taken) == len(set(taken))
    while claim := await other.claims.take("last", 30):  # whom a skipped row was the only one for
        taken.append(claim.cluster.uuid)
    assert sorted(taken) == sorted(cluster.uuid for cluster in made)


async def test_a_row_that_is_held_is_stepped_over(
    store: Store, template: ClusterTemplate, database: Database
) -> None:
    held = await added(store, a_cluster(template, "held"))
    free = await added(store, a_cluster(template, "free"))
    locked, go = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(connection: Connection) -> None:
        connection.execute(
            text("SELECT id FROM clusters WHERE uuid = :held FOR UPDATE"), {"held": held.uuid}
        )
        loop.call_soon(locked.set)
        while not go.is_set():
            connection.exec_driver_sql("SELECT pg_sleep(0.005)")

    holding = asyncio.create_task(database.write(hold, isolation=Isolation.READ_COMMITTED))
    await locked.wait()
    async with asyncio.timeout(2):
        claim = await store.claims.take("w", 30)
    assert claim is not None
    assert claim.cluster == free
    go.set()
    await holding


async def test_reads_run_beside_each_other(database: Database) -> None:
    """Each waits for a lock that the other holds: one after the other, they would not end."""

    def first(connection: Connection) -> None:
        connection.exec_driver_sql("SELECT pg_advisory_lock(1)")
        while not connection.scalar(
            text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 2")
        ):
            connection.exec_driver_sql("SELECT pg_sleep(0.005)")
        connection.exec_driver_sql("SELECT pg_advisory_unlock(1)")

    def second(connection: Connection) -> None:
        connection.exec_driver_sql("SELECT pg_advisory_lock(2)")
        connection.exec_driver_sql("SELECT pg_advisory_lock(1)")
        connection.exec_driver_sql("SELECT pg_advisory_unlock_all()")

    async with asyncio.timeout(5):
        await asyncio.gather(database.read(first), database.read(second))


async def test_a_server_that_stops_is_waited_for(
    store: Store, template: ClusterTemplate, stopped: PostgresServer
) -> None:
    cluster = await added(store, a_cluster(template))
    await asyncio.gather(*(store.clusters.list(EVERYTHING, Page()) for _ in range(6)))
    stopped.stop()
    for _ in range(2):
        with pytest.raises(RetryLater, match="can't be reached"):
            await store.clusters.get(cluster.uuid, EVERYTHING)
        with pytest.raises(RetryLater, match="can't be reached"):
            await store.templates.add(a_template())
    stopped.start()
    assert await store.clusters.get(cluster.uuid, EVERYTHING) == cluster
    await store.templates.add(a_template())


async def test_a_restart_between_two_requests_is_not_seen(
    store: Store, template: ClusterTemplate, stopped: PostgresServer
) -> None:
    await asyncio.gather(*(store.clusters.list(EVERYTHING, Page()) for _ in range(6)))
    stopped.stop()
    stopped.start()
    await asyncio.gather(*(store.clusters.list(EVERYTHING, Page()) for _ in range(6)))
    stopped.stop()
    stopped.start()
    await asyncio.gather(*(store.templates.add(a_template()) for _ in range(6)))
    assert len(await store.templates.list(EVERYTHING, Page())) == 7


async def test_a_server_that_is_not_there(stopped: PostgresServer, seal: Seal) -> None:
    url = stopped.url("postgres")
    stopped.stop()
    with pytest.raises(RetryLater) as caught:
        await Store.open(url, seal)
    assert str(stopped.port) in caught.value.reason
    assert stopped.password not in caught.value.reason


@pytest.mark.parametrize("name", ["postgres", "nothing"])
async def test_a_wrong_password_is_refused(postgres: PostgresServer, seal: Seal, name: str) -> None:
    with pytest.raises(Refused, match="password") as caught:
        await Store.open(postgres.url(name, password="hunter2"), seal)
    assert "moorage" in caught.value.reason
    assert "hunter2" not in caught.value.reason


async def test_an_unknown_database_is_refused(postgres: PostgresServer, seal: Seal) -> None:
    with pytest.raises(Refused, match="no database 'nothing'") as caught:
        await Store.open(postgres.url("nothing"), seal)
    assert postgres.password not in caught.value.reason


async def test_a_user_who_may_make_no_tables_is_refused(
    postgres: PostgresServer, empty_url: str, seal: Seal
) -> None:
    postgres.sql("CREATE USER guest PASSWORD 'guest'")
    try:
        with pytest.raises(Refused, match="owner"):
            await Store.open(empty_url.replace(f"moorage:{postgres.password}", "guest:guest"), seal)
    finally:
        postgres.sql("DROP USER guest")


async def test_a_full_server_is_waited_for(postgres: PostgresServer, url: str, seal: Seal) -> None:
    name = url.rpartition("/")[2]
    postgres.sql("CREATE USER crowd PASSWORD 'crowd' CONNECTION LIMIT 0")
    try:
        with pytest.raises(RetryLater, match="no more connections"):
            await Store.open(f"postgresql://crowd:crowd@127.0.0.1:{postgres.port}/{name}", seal)
    finally:
        postgres.sql("DROP USER crowd")


async def test_a_statement_that_takes_too_long_is_ended(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(postgres.SESSION, "statement_timeout", "300ms")
    database = await open_database(url)
    for go in (database.read, database.write):
        with pytest.raises(RetryLater, match="too long"):
            await go(lambda c: c.exec_driver_sql("SELECT pg_sleep(10)"))
    assert await database.read(lambda c: c.scalar(text("SELECT 1"))) == 1
    await database.close()


async def test_a_read_that_is_cancelled_leaves_no_answer_behind(database: Database) -> None:
    sleeping = [
        asyncio.create_task(database.read(lambda c: c.scalar(text("SELECT pg_sleep(10)"))))
        for _ in range(postgres.READERS)
    ]
    sleepers = text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'")
    while await database.write(lambda c: c.scalar(sleepers)) < postgres.READERS:  # noqa: ASYNC110
        await asyncio.sleep(0)
    for task in sleeping:
        task.cancel()
    await asyncio.wait(sleeping)
    async with asyncio.timeout(5):
        numbers = [
            database.read(lambda c, number=number: c.scalar(text(f"SELECT {number}")))  # type: ignore[misc]
            for number in range(20)
        ]
        assert await asyncio.gather(*numbers) == list(range(20))


async def test_what_a_cancelled_request_wrote_is_whole_and_told(
    store: Store, database: Database
) -> None:
    told: list[str] = []
    committed = asyncio.Event()

    def work(connection: Connection) -> str:
        connection.execute(insert(quotas), [a_quota("ours")])
        return "done"

    def then(result: str) -> None:
        told.append(result)
        committed.set()

    request = asyncio.create_task(database.write(work, then))
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    async with asyncio.timeout(5):
        await committed.wait()
    assert told == ["done"]
    quota = await store.quotas.get("ours", Resource.NODE)
    assert quota is not None
    assert quota.hard_limit == 7


async def test_errors_show_no_parameters(database: Database) -> None:
    with pytest.raises(Exception, match="nothing") as caught:
        await database.write(
            lambda c: c.execute(text("SELECT * FROM nothing WHERE x = :x"), {"x": "hunter2"})
        )
    assert "hunter2" not in str(caught.value)


async def test_many_parallel_wishes_of_two_processes_all_come_true(
    store: Store, other: Store, template: ClusterTemplate
) -> None:
    cluster = await added(store, a_cluster(template, workers=0))
    limits = {Resource.NODE: 100}

    def one_more(before: Cluster) -> Cluster:
        return sized(before, before.node_count + 1)

    await asyncio.gather(
        *(
            wanted((store, other)[number % 2], cluster.uuid, one_more, limits)
            for number in range(16)
        )
    )
    assert (await store.clusters.get(cluster.uuid, Scope("ours"))).node_count == 16


async def test_three_processes_that_only_add_to_small_tables_starve_nobody(
    store: Store, url: str, seal: Seal, template: ClusterTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write meets every other, while a read is remembered as one of the whole table."""
    monkeypatch.setattr(postgres, "ATTEMPTS", 8)
    processes = [store, *[await Store.open(url, seal) for _ in range(2)]]

    async def add(process: Store, task: str) -> None:
        for number in range(10):
            await added(process, a_cluster(template, f"c{task}-{number}"))

    try:
        await asyncio.gather(
            *(add(process, f"{p}{t}") for p, process in enumerate(processes) for t in range(3))
        )
        assert await store.clusters.count() == 90
    finally:
        for process in processes[1:]:
            await process.close()
