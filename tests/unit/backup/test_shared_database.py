"""A restore into a PostgreSQL that is in use: by a newer Moorage, by others, by one that is up."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from moorage.backup import databases, opened, place, restore
from moorage.cli import choices
from moorage.model.errors import Refused
from moorage.settings import Settings
from moorage.store import Store
from tests.postgres import PostgresServer
from tests.unit.backup.conftest import Saved, in_store, keys_open, known
from tests.unit.store.test_migration import inside, moved

BEFORE_ABANDONED = "0005"


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    with postgres.database() as name:
        yield name


@pytest.fixture
def saved(tmp_path: Path, postgres: PostgresServer, database: str) -> Saved:
    """An install on a PostgreSQL, in which another application has a table too."""
    postgres.sql("CREATE TABLE bills (amount int)", database)
    postgres.sql("INSERT INTO bills VALUES (1)", database)
    settings = Settings(
        state=tmp_path / "old", database_url=SecretStr(postgres.url(database)), machine="here"
    )
    made = Saved(settings)
    made.make()
    choices.keep(settings)
    return made


def replaced(saved: Saved, data: bytes, state: Path, database: str | None) -> None:
    with opened(io.BytesIO(data), state) as backup:
        place(backup, state, database=database, force=True)


def test_a_backup_of_before_an_upgrade_comes_back_and_starts(saved: Saved, tmp_path: Path) -> None:
    """Tables that the backup doesn't know go too: the next start makes them anew."""
    url = saved.settings.database
    asyncio.run(inside(url, moved(BEFORE_ABANDONED)))
    data = saved.saved()
    keys_open(saved.settings, saved.clusters)  # whoever opens it brings it to the newest version
    replaced(saved, data, tmp_path / "new", url)
    restored = choices.load(tmp_path / "new")
    assert sorted(known(restored)) == sorted(saved.clusters)
    assert keys_open(restored, saved.clusters)


def test_the_tables_of_others_stay_as_they_are(
    saved: Saved, tmp_path: Path, postgres: PostgresServer, database: str
) -> None:
    data = saved.saved()
    postgres.sql("INSERT INTO bills VALUES (2)", database)
    replaced(saved, data, tmp_path / "new", saved.settings.database)
    assert postgres.sql("SELECT sum(amount) FROM bills", database) == "3"
    with postgres.database() as other:
        replaced(saved, data, tmp_path / "third", postgres.url(other))
        assert postgres.sql("SELECT to_regclass('bills')", other) == "", "nor are they saved"
        assert keys_open(choices.load(tmp_path / "third"), saved.clusters)


def test_a_restore_that_fails_has_dropped_nothing(
    saved: Saved, tmp_path: Path, postgres: PostgresServer, database: str
) -> None:
    data = saved.saved()
    postgres.sql("CREATE VIEW ours AS SELECT name FROM clusters", database)
    with pytest.raises(Refused, match=r"psql failed: .*depend"):
        replaced(saved, data, tmp_path / "new", saved.settings.database)
    assert not (tmp_path / "new" / restore.RESTORING).exists()
    assert keys_open(saved.settings, saved.clusters)


def test_what_is_replaced_is_named_and_not_taken_from_the_backup(
    saved: Saved, tmp_path: Path
) -> None:
    """A drill would otherwise replace the database that the production uses."""
    with pytest.raises(Refused, match="name it by --database"):
        replaced(saved, saved.saved(), tmp_path / "drill", None)
    assert not (tmp_path / "drill").exists()


def test_a_database_on_which_moorage_is_up_is_left_alone(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "GONE_SECONDS", 0.3)
    data, url = saved.saved(), saved.settings.database

    async def try_it(_: Store) -> None:
        with pytest.raises(Refused, match=r"Moorage is up on that database.*127\.0\.0\.1"):
            await asyncio.to_thread(replaced, saved, data, tmp_path / "new", url)

    in_store(saved.settings, try_it)
    assert not (tmp_path / "new").exists()
    replaced(saved, data, tmp_path / "new", url)


async def test_one_that_ends_just_now_is_waited_for(saved: Saved) -> None:
    """`moorage down` returns before the server has noticed that its connections are closed."""
    url = saved.settings.database
    there = await asyncpg.connect(url, server_settings={"application_name": "moorage hints"})
    asking = asyncio.create_task(asyncio.to_thread(databases.refuse_in_use, url))
    await asyncio.sleep(0.3)
    assert not asking.done()
    await there.close()
    await asking
