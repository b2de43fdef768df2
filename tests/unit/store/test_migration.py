"""From the tables of version 0001 to the newest ones, with rows in them, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from moorage.model.cluster import Cluster, ClusterStatus, HealthStatus
from moorage.model.healing import Healing
from moorage.model.node import Flavor
from moorage.model.page import Page
from moorage.model.ports import CaKeys, KeyPair
from moorage.model.quota import Resource
from moorage.store import EVERYTHING, Store
from moorage.store.migrate import SCRIPTS
from moorage.store.tables import EPOCH, MICROSECOND, metadata
from moorage.trust.seal import Seal

T = TypeVar("T")
AT = 1_790_000_000_123_457
"""Microseconds since the epoch."""
WEB, DATA = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
TEMPLATE = "00000000-0000-4000-8000-00000000000c"


async def inside(url: str, work: Callable[[Connection], T]) -> T:
    """`work` in one transaction of its own, without Moorage's store around it."""
    if url.startswith("sqlite"):
        engine = sa.create_engine(url)
        try:
            with engine.begin() as connection:
                return work(connection)
        finally:
            engine.dispose()
    remote = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
    try:
        async with remote.begin() as one:
            return await one.run_sync(work)
    finally:
        await remote.dispose()


def moved(to: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS))
        config.attributes["connection"] = connection
        here = MigrationContext.configure(connection).get_current_revision() or ""
        (command.upgrade if here < to else command.downgrade)(config, to)

    return work


def layout(connection: Connection) -> dict[str, list[tuple[str, str, bool]]]:
    """Every table's columns: name, type, nullable."""
    inspector = sa.inspect(connection)
    return {
        table: sorted(
            (column["name"], str(column["type"]), column["nullable"])
            for column in inspector.get_columns(table)
        )
        for table in inspector.get_table_names()
    }


def rows_of(connection: Connection) -> list[dict[str, Any]]:
    table = sa.Table("clusters", sa.MetaData(), autoload_with=connection)
    return [dict(row) for row in connection.execute(sa.select(table).order_by("id")).mappings()]


def a_row(seal: Seal, uuid: str, **changes: Any) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "project_id": "ours",
        "user_id": "user",
        "template_uuid": TEMPLATE,
        "coe": "swarm",
        "provider": "local",
        "create_timeout": 60,
        "labels": {},
        "options": {},
        "created_at": AT,
        "updated_at": None,
        "deadline": None,
        "status_reason": None,
        "health_status": "HEALTHY",
        "health_reasons": {},
        "api_address": None,
        "coe_version": None,
        "container_version": None,
        "attempts": 0,
        "ca_certificate": b"public",
        "ca_key": seal.seal(b"secret", uuid),
        "generation": 3,
        "due_at": 1.5,
        "lease_until": None,
        "lease_worker": None,
        "token": 7,
        **changes,
    }


def with_rows(seal: Seal) -> Callable[[Connection], None]:
    web = a_row(
        seal,
        WEB,
        name="web",
        flavor_id="medium",
        master_flavor_id="small",
        master_count=1,
        node_count=3,
        labels={"ключ": "värde"},
        options={"docker_volume_size": 9},
        status="CREATE_COMPLETE",
        status_reason="created",
        api_address="tcp://127.0.0.1:20000",
        master_addresses=["10.0.0.2"],
        node_addresses=["10.0.0.3", "10.0.0.4", "10.0.0.5"],
    )
    data = a_row(
        seal,
        DATA,
        name="data",
        flavor_id="gone",
        master_flavor_id="tiny",
        master_count=3,
        node_count=0,
        status="UPDATE_FAILED",
        health_status="UNHEALTHY",
        health_reasons={"master-2": "no answer"},
        master_addresses=["10.0.1.2", "10.0.1.3"],
        node_addresses=[],
    )

    def work(connection: Connection) -> None:
        found = sa.MetaData()
        templates = sa.Table("cluster_templates", found, autoload_with=connection)
        clusters = sa.Table("clusters", found, autoload_with=connection)
        connection.execute(
            templates.insert().values(
                uuid=TEMPLATE,
                project_id="ours",
                user_id="user",
                name="swarm",
                coe="swarm",
                flavor_id="medium",
                master_flavor_id="small",
                labels={},
                options={},
                public=False,
                hidden=False,
                created_at=AT,
            )
        )
        for row in (web, data):
            connection.execute(clusters.insert().values(row))

    return work


async def refuse_numbers_given_twice(url: str) -> None:
    """SQLite gives the number of a deleted last row again, unless the table says otherwise."""
    if url.startswith("sqlite"):
        made = sa.text("SELECT sql FROM sqlite_master WHERE name = 'clusters'")
        assert "AUTOINCREMENT" in await inside(url, lambda c: str(c.scalar(made)))


@pytest.fixture
async def old_url(empty_url: str, seal: Seal) -> str:
    """Of a database as version 0001 left it, with two clusters."""
    await inside(empty_url, moved("0001"))
    await inside(empty_url, with_rows(seal))
    return empty_url


async def opened(url: str, seal: Seal) -> tuple[Cluster, Cluster]:
    store = await Store.open(url, seal)
    try:
        assert await store.quotas.used("ours") == {
            Resource.CLUSTER: 2,
            Resource.NODE: 7,
            Resource.CPU: (2 + 3 * 2) + 3 * 1,
            Resource.MEMORY: (1024 + 3 * 4096) + 3 * 512,
            Resource.DISK: (5 + 3 * 20) + 3 * 2,
        }
        assert await store.clusters.ca(WEB) == CaKeys(KeyPair(b"public", b"secret"))
        return (
            await store.clusters.get(WEB, EVERYTHING),
            await store.clusters.get(DATA, EVERYTHING),
        )
    finally:
        await store.close()


async def test_every_cluster_has_its_default_groups_afterwards(old_url: str, seal: Seal) -> None:
    web, data = await opened(old_url, seal)
    master, worker = web.groups
    assert (master.name, master.prefix, master.role) == ("default-master", "master", "master")
    assert (worker.name, worker.prefix, worker.role) == ("default-worker", "worker", "worker")
    assert master.flavor == Flavor("small", 2, 1024, 5, 4096)
    assert worker.flavor == Flavor("medium", 2, 4096, 20, 8192)
    assert worker.addresses == {
        "worker-0": "10.0.0.3",
        "worker-1": "10.0.0.4",
        "worker-2": "10.0.0.5",
    }
    assert (web.master_addresses, web.master_count, web.node_count) == (("10.0.0.2",), 1, 3)
    for group in web.groups:
        assert group.status is web.status is ClusterStatus.CREATE_COMPLETE
        assert (group.labels, group.docker_volume_size) == ({"ключ": "värde"}, 9)
        assert (group.template_uuid, group.node_labels, group.node_taints) == (TEMPLATE, {}, ())
        assert group.created_at == web.created_at == EPOCH + AT * MICROSECOND
    assert (web.status_reason, web.api_address) == ("created", "tcp://127.0.0.1:20000")
    assert (web.batch_size, web.rotation, web.credentials, web.fallback) == (1, None, 0, None)
    assert (web.seen_at, web.healing) == (None, Healing())

    assert (data.default_master.nodes, data.default_worker.nodes) == (
        ("master-0", "master-1", "master-2"),
        (),
    )
    assert data.default_master.addresses == {"master-0": "10.0.1.2", "master-1": "10.0.1.3"}
    assert (data.flavor_id, data.health.status) == ("gone", HealthStatus.UNHEALTHY)
    uuids = {group.uuid for cluster in (web, data) for group in cluster.groups}
    assert len(uuids) == 4


async def test_the_tables_are_then_those_of_the_code(old_url: str, seal: Seal) -> None:
    await opened(old_url, seal)

    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    assert await inside(old_url, differences) == []
    await refuse_numbers_given_twice(old_url)


async def test_claims_and_work_go_on(old_url: str, seal: Seal) -> None:
    store = await Store.open(old_url, seal)
    claim = await store.claims.take("w", 30)
    assert claim is not None
    assert (claim.token, claim.generation) == (8, 3)
    assert await store.claims.apply(claim, claim.cluster, 60)
    await store.close()


async def test_down_and_up_again(old_url: str, seal: Seal) -> None:
    before, before_rows = await inside(old_url, layout), await inside(old_url, rows_of)
    await opened(old_url, seal)
    await inside(old_url, moved("0001"))
    assert await inside(old_url, layout) == before
    await refuse_numbers_given_twice(old_url)
    after_rows = await inside(old_url, rows_of)
    for row in (*before_rows, *after_rows):
        del row["master_addresses"], row["node_addresses"]  # the next turn sees them again
    assert after_rows == before_rows
    web, data = await opened(old_url, seal)
    assert (web.node_count, data.master_count) == (3, 3)


async def test_what_was_recorded_is_kept_on_the_way_up_and_down(old_url: str, seal: Seal) -> None:
    """0003: before it, nobody knew what a request touched, nor an event's request."""
    await inside(old_url, moved("0002"))
    before = await inside(old_url, layout)

    def with_history(connection: Connection) -> None:
        found = sa.MetaData()
        kept = sa.Table("events", found, autoload_with=connection)
        line = {"cluster_uuid": WEB, "project_id": "ours", "what": "create", "at": AT, "ok": True}
        connection.execute(kept.insert().values(kind="request", cause="asked by ada", **line))
        records = sa.Table("audit", found, autoload_with=connection)
        who = {"user_id": "u", "user_name": "ada", "project_id": "ours", "address": "::1"}
        what = {"method": "DELETE", "path": "/v1/clusters/web", "status": 204}
        connection.execute(records.insert().values(at=AT, request_id="req-1", **who, **what))

    await inside(old_url, with_history)
    for _ in range(2):
        store = await Store.open(old_url, seal)
        (event,) = await store.events.list(WEB, EVERYTHING, Page())
        (record,) = await store.audit.list(EVERYTHING, Page())
        await store.close()
        assert (event.what, event.cause, event.request_id) == ("create", "asked by ada", None)
        assert (record.request_id, record.status, record.target) == ("req-1", 204, None)
        await inside(old_url, moved("0002"))
        assert await inside(old_url, layout) == before


async def test_groups_of_one_s_own_can_not_go_down(old_url: str, seal: Seal) -> None:
    await opened(old_url, seal)

    def with_a_third(connection: Connection) -> None:
        first = rows_of(connection)[0]["groups"]
        groups = json.dumps([*(json.loads(first) if isinstance(first, str) else first), {}])
        given = "CAST(:groups AS JSON)" if connection.dialect.name == "postgresql" else ":groups"
        statement = f"UPDATE clusters SET groups = {given} WHERE uuid = '{WEB}'"
        connection.execute(sa.text(statement), {"groups": groups})

    await inside(old_url, with_a_third)
    with pytest.raises(RuntimeError, match=f"cluster {WEB} has node groups"):
        await inside(old_url, moved("0001"))
    assert "events" in await inside(old_url, layout)


async def test_claims_of_before_end_with_their_lease(empty_url: str, seal: Seal) -> None:
    """0002 looked at two columns to see whether a row is due; 0003 looks at one."""
    await inside(empty_url, moved("0001"))
    await inside(empty_url, with_rows(seal))
    await inside(empty_url, moved("0002"))
    lease = f"UPDATE clusters SET lease_until = 4e9, lease_worker = 'w' WHERE uuid = '{WEB}'"
    await inside(empty_url, lambda c: c.execute(sa.text(lease)))
    before, before_rows = await inside(empty_url, layout), await inside(empty_url, rows_of)
    await opened(empty_url, seal)
    store = await Store.open(empty_url, seal)
    claim = await store.claims.take("v", 30)
    assert claim is not None
    assert claim.cluster.uuid == DATA
    assert await store.claims.take("v", 30) is None
    await store.claims.apply(claim, claim.cluster, 60)
    await store.close()

    await inside(empty_url, moved("0002"))
    assert await inside(empty_url, layout) == before
    await refuse_numbers_given_twice(empty_url)
    web, old_web = (await inside(empty_url, rows_of))[0], before_rows[0]
    assert web == old_web | {"due_at": 4e9}
    await opened(empty_url, seal)


async def test_records_of_what_was_abandoned_outlive_the_way_up_and_down(
    old_url: str, seal: Seal
) -> None:
    """0008: before it, nobody knew on which machine it is."""
    await inside(old_url, moved("0007"))
    before = await inside(old_url, layout)

    def with_a_record(connection: Connection) -> None:
        table = sa.Table("abandoned", sa.MetaData(), autoload_with=connection)
        who = {"uuid": WEB, "name": "web", "project_id": "ours", "user_id": "u", "coe": "swarm"}
        what = {"provider": "local", "nodes": [], "traces": ["slot 7"], "reason": "busy"}
        connection.execute(table.insert().values(at=AT, forced_by="root", **who, **what))

    at_home = sa.text("UPDATE abandoned SET home = 'here/one'")
    await inside(old_url, with_a_record)
    for _ in range(2):
        store = await Store.open(old_url, seal)
        (left,) = await store.abandoned.list()
        await store.close()
        assert (left.uuid, left.traces, left.home) == (WEB, ("slot 7",), "")
        await inside(old_url, lambda c: c.execute(at_home))
        await inside(old_url, moved("0007"))
        assert await inside(old_url, layout) == before
        await refuse_numbers_given_twice(old_url)
