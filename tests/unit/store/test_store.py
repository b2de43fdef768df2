"""Opening: migrations, what lies on the disk, and the key that opens it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text

from moorage.model.errors import Refused
from moorage.model.template import ClusterTemplate
from moorage.store import EVERYTHING, Store
from moorage.store.tables import metadata
from moorage.trust.authority import ClusterAuthority
from moorage.trust.seal import Seal
from tests.unit.store.conftest import PLENTY, a_cluster, a_template


async def test_an_empty_database_becomes_what_the_tables_say(store: Store, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'moorage.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
    engine.dispose()


async def test_opening_again_keeps_everything(url: str, seal: Seal) -> None:
    first = await Store.open(url, seal)
    template = await first.templates.add(a_template())
    await first.close()
    second = await Store.open(url, seal)
    assert await second.templates.get(template.uuid, EVERYTHING) == template
    await second.close()


async def test_a_database_of_a_newer_version_is_refused(
    url: str, seal: Seal, tmp_path: Path
) -> None:
    await (await Store.open(url, seal)).close()
    with sqlite3.connect(tmp_path / "moorage.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(Refused, match="newer"):
        await Store.open(url, seal)


@pytest.mark.parametrize(
    "url", ["postgresql://moorage:hunter2@db/moorage", "sqlite://", "sqlite:///:memory:"]
)
async def test_what_is_no_sqlite_file_is_refused(url: str, seal: Seal) -> None:
    with pytest.raises(Refused, match="SQLite file") as caught:
        await Store.open(url, seal)
    assert "hunter2" not in caught.value.reason


async def test_a_missing_directory_is_named_as_the_cause(tmp_path: Path, seal: Seal) -> None:
    with pytest.raises(Refused, match="directory"):
        await Store.open(f"sqlite:///{tmp_path / 'none' / 'moorage.db'}", seal)


async def test_no_file_of_the_database_holds_a_private_key(
    store: Store, template: ClusterTemplate, tmp_path: Path
) -> None:
    authority = ClusterAuthority.create("one")
    cluster = await store.clusters.add(a_cluster(template), authority.pair, PLENTY)
    assert await store.clusters.ca(cluster.uuid) == authority.pair
    secret = authority.pair.key.splitlines()[1]
    for checkpointed in (False, True):
        if checkpointed:
            await store.close()
        files = [path.read_bytes() for path in tmp_path.iterdir()]  # noqa: ASYNC240
        assert any(authority.pair.certificate in data for data in files)
        for data in files:
            assert b"PRIVATE KEY" not in data
            assert secret not in data


async def test_another_key_file_is_found_out_at_the_start(
    store: Store, template: ClusterTemplate, url: str
) -> None:
    await store.clusters.add(a_cluster(template), ClusterAuthority.create("one").pair, PLENTY)
    with pytest.raises(Refused, match="another one"):
        await Store.open(url, Seal([b"x" * 32]))
    both = await Store.open(url, Seal([b"x" * 32, b"k" * 32]))
    await both.close()


async def test_a_sealed_key_does_not_open_in_another_row(
    store: Store, template: ClusterTemplate, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        pair = ClusterAuthority.create(name).pair
        await store.clusters.add(a_cluster(template, name), pair, PLENTY)
    with sqlite3.connect(tmp_path / "moorage.db") as raw:
        raw.execute("UPDATE clusters SET ca_key = (SELECT ca_key FROM clusters WHERE name = 'one')")
    raw.close()
    two = await store.clusters.get("two", EVERYTHING)
    with pytest.raises(Exception, match="does not open"):
        await store.clusters.ca(two.uuid)


async def test_closing_twice_is_no_error(url: str, seal: Seal) -> None:
    store = await Store.open(url, seal)
    await store.close()
    await store.close()
