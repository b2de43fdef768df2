from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from moorage.model.cluster import Cluster, ClusterStatus
from moorage.model.ports import KeyPair
from moorage.model.quota import Amounts
from moorage.model.template import ClusterTemplate
from moorage.store import Store
from moorage.store.tables import metadata
from moorage.trust.seal import Seal
from tests import made
from tests.postgres import PostgresServer, private_server

PLENTY: Amounts = {}
"""Nothing is bounded."""
CA = KeyPair(b"-----BEGIN CERTIFICATE-----\npublic\n", b"-----BEGIN PRIVATE KEY-----\nsecret\n")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with private_server() as server:
        yield server


@pytest.fixture(scope="session")
def migrated(postgres: PostgresServer) -> Iterator[str]:
    """The name of a database that is as Store.open leaves it."""

    async def prepare(name: str) -> None:
        await (await Store.open(postgres.url(name), Seal([b"k" * 32]))).close()

    with postgres.database() as name:
        asyncio.run(prepare(name))
        yield name


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a database that nobody has opened yet, on each backend in turn."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    postgres: PostgresServer = request.getfixturevalue("postgres")
    with postgres.database() as name:
        yield postgres.url(name)


@pytest.fixture
def url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a database with its tables and no rows, on each backend in turn."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path / 'moorage.db'}"
        return
    postgres: PostgresServer = request.getfixturevalue("postgres")
    name: str = request.getfixturevalue("migrated")
    yield postgres.url(name)
    # Emptied, because to copy a database takes longer than most tests.
    tables = ", ".join(metadata.tables)
    postgres.sql(f"TRUNCATE {tables} RESTART IDENTITY", name)


@pytest.fixture
def raw(url: str, request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Runs SQL in the database, past the store."""
    database = make_url(url).database
    assert database

    def run(statement: str) -> None:
        if url.startswith("sqlite"):
            with sqlite3.connect(database) as connection:
                connection.execute(statement)
            connection.close()
        else:
            request.getfixturevalue("postgres").sql(statement, database)

    return run


@pytest.fixture
def seal() -> Seal:
    return Seal([b"k" * 32])


@pytest.fixture
async def store(url: str, seal: Seal) -> AsyncIterator[Store]:
    opened = await Store.open(url, seal)
    yield opened
    await opened.close()


@pytest.fixture
async def other(store: Store, url: str, seal: Seal) -> AsyncIterator[Store]:
    """A second store over the same database, as another process has it."""
    opened = await Store.open(url, seal)
    yield opened
    await opened.close()


@pytest.fixture
async def template(store: Store) -> ClusterTemplate:
    return await store.templates.add(a_template())


def a_template(**changes: Any) -> ClusterTemplate:
    values: dict[str, Any] = {
        "uuid": str(uuid.uuid4()),
        "project_id": "ours",
        "user_id": "user",
        "name": "swarm",
        "coe": "swarm",
        "flavor_id": "tiny",
        "master_flavor_id": "small",
        "labels": {"a": "b"},
        "options": {"image_id": "debian"},
    }
    return ClusterTemplate(**(values | changes))


def a_cluster(
    template: ClusterTemplate, name: str = "one", workers: int = 2, **changes: Any
) -> Cluster:
    """One master, and workers."""
    values: dict[str, Any] = {
        "uuid": str(uuid.uuid4()),
        "project_id": "ours",
        "user_id": "user",
        "name": name,
        "template_uuid": template.uuid,
        "coe": "swarm",
        "provider": "local",
        "create_timeout": 60,
        "groups": made.groups(1, workers, template_uuid=template.uuid),
    }
    return Cluster(**(values | changes))


def sized(cluster: Cluster, workers: int, **changes: Any) -> Cluster:
    """The cluster with so many workers, being updated."""
    master, worker = cluster.groups
    values: dict[str, Any] = {
        "groups": (master, dataclasses.replace(worker, ordinals=tuple(range(workers)))),
        "status": ClusterStatus.UPDATE_IN_PROGRESS,
    }
    return dataclasses.replace(cluster, **(values | changes))


async def added(store: Store, cluster: Cluster, defaults: Amounts = PLENTY) -> Cluster:
    return await store.clusters.add(cluster, CA, defaults, by="alice")


async def wanted(
    store: Store,
    uuid: str,
    wish: Callable[[Cluster], Cluster],
    defaults: Amounts = PLENTY,
) -> Cluster:
    return await store.clusters.want(uuid, wish, defaults, by="alice")
