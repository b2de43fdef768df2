"""Opening: migrations, what lies on the disk, and the key that opens it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.exc import DatabaseError

from moorage.model.errors import Refused, RetryLater
from moorage.model.template import ClusterTemplate
from moorage.store import EVERYTHING, Store
from moorage.store.open import open_database
from moorage.store.sqlite import _refusal
from moorage.store.tables import metadata
from moorage.trust.authority import new_ca
from moorage.trust.seal import Seal
from tests.unit.store.conftest import PLENTY, a_cluster, a_template


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


async def test_an_empty_database_becomes_what_the_tables_say(empty_url: str) -> None:
    database = await open_database(empty_url)
    assert await database.write(differences) == []
    await database.close()


async def test_a_file_is_kept_with_a_write_ahead_log(tmp_path: Path) -> None:
    database = await open_database(f"sqlite:///{tmp_path / 'moorage.db'}")
    assert await database.read(lambda c: c.scalar(text("PRAGMA journal_mode"))) == "wal"
    await database.close()


async def test_two_that_open_at_once_migrate_once(empty_url: str, seal: Seal) -> None:
    stores = await asyncio.gather(*(Store.open(empty_url, seal) for _ in range(4)))
    template = await stores[0].templates.add(a_template())
    for store in stores:
        assert await store.templates.get(template.uuid, EVERYTHING) == template
        await store.close()


async def test_opening_again_keeps_everything(url: str, seal: Seal) -> None:
    first = await Store.open(url, seal)
    template = await first.templates.add(a_template())
    await first.close()
    second = await Store.open(url, seal)
    assert await second.templates.get(template.uuid, EVERYTHING) == template
    await second.close()


async def test_a_database_of_a_newer_version_is_refused(empty_url: str, seal: Seal) -> None:
    database = await open_database(empty_url)
    await database.write(
        lambda c: c.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'").rowcount
    )
    await database.close()
    with pytest.raises(Refused, match="newer"):
        await Store.open(empty_url, seal)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://moorage:hunter2@db/moorage",
        "postgresql://moorage:hunter2@db:port/moorage",
        "hunter2",
        "",
    ],
)
async def test_what_names_no_database_is_refused(url: str, seal: Seal) -> None:
    with pytest.raises(Refused, match="sqlite:///") as caught:
        await Store.open(url, seal)
    assert "hunter2" not in caught.value.reason


async def test_a_missing_directory_is_named_as_the_cause(tmp_path: Path, seal: Seal) -> None:
    with pytest.raises(Refused, match="directory"):
        await Store.open(f"sqlite:///{tmp_path / 'none' / 'moorage.db'}", seal)


@pytest.mark.parametrize("backend", ["sqlite"])
async def test_no_file_of_the_database_holds_a_private_key(
    store: Store, template: ClusterTemplate, tmp_path: Path
) -> None:
    pair = new_ca("one")
    own = b"never to be seen by anyone else."
    cluster = await store.clusters.add(a_cluster(template), pair, PLENTY, secret=own, by="alice")
    kept = await store.clusters.ca(cluster.uuid)
    assert (kept.current, kept.secret) == (pair, own)
    assert own.decode() not in repr(kept)
    secret = pair.key.splitlines()[1]
    for checkpointed in (False, True):
        if checkpointed:
            await store.close()
        files = [path.read_bytes() for path in tmp_path.iterdir()]  # noqa: ASYNC240
        assert any(pair.certificate in data for data in files)
        for data in files:
            assert b"PRIVATE KEY" not in data
            assert secret not in data
            assert own not in data


async def test_another_key_file_is_found_out_at_the_start(
    store: Store, template: ClusterTemplate, url: str
) -> None:
    pair = new_ca("one")
    await store.clusters.add(a_cluster(template), pair, PLENTY, by="alice")
    with pytest.raises(Refused, match="another one"):
        await Store.open(url, Seal([b"x" * 32]))
    both = await Store.open(url, Seal([b"x" * 32, b"k" * 32]))
    await both.close()


async def test_a_sealed_key_does_not_open_in_another_row(
    store: Store, template: ClusterTemplate, raw: Callable[[str], None]
) -> None:
    for name in ("one", "two"):
        pair = new_ca(name)
        await store.clusters.add(a_cluster(template, name), pair, PLENTY, by="alice")
    raw("UPDATE clusters SET ca_key = (SELECT ca_key FROM clusters WHERE name = 'one')")
    two = await store.clusters.get("two", EVERYTHING)
    with pytest.raises(Exception, match="does not open"):
        await store.clusters.ca(two.uuid)


async def test_closing_twice_is_no_error(url: str, seal: Seal) -> None:
    store = await Store.open(url, seal)
    await store.close()
    await store.close()


@pytest.mark.parametrize(
    ("code", "opening", "means"),
    [
        (sqlite3.SQLITE_FULL, False, RetryLater),
        (sqlite3.SQLITE_IOERR_FSYNC, False, RetryLater),
        (sqlite3.SQLITE_READONLY, False, RetryLater),
        (sqlite3.SQLITE_CANTOPEN, False, RetryLater),
        (sqlite3.SQLITE_CANTOPEN, True, Refused),
        (sqlite3.SQLITE_CORRUPT, False, RetryLater),
        (sqlite3.SQLITE_CORRUPT, True, Refused),
        (sqlite3.SQLITE_ERROR, False, DatabaseError),
    ],
)
def test_what_a_disk_in_trouble_means(code: int, opening: bool, means: type[Exception]) -> None:
    told = sqlite3.OperationalError("disk I/O error")
    told.sqlite_errorcode = code
    assert isinstance(_refusal(DatabaseError("", {}, told), opening=opening), means)


@pytest.mark.parametrize(("durable", "synchronous"), [(True, 2), (False, 1)])
async def test_a_commit_waits_for_the_disk_unless_it_may_be_lost(
    tmp_path: Path, durable: bool, synchronous: int
) -> None:
    database = await open_database(f"sqlite:///{tmp_path / 'moorage.db'}")
    try:
        asked = text("PRAGMA synchronous")
        await database.write(lambda c: None, durable=not durable)
        level = await database.write(lambda c: c.scalar(asked), durable=durable)
        assert level == synchronous
    finally:
        await database.close()
