"""What an operator's command reads beside the server: everything, and nothing changes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from moorage.model.errors import Refused
from moorage.store import Store
from moorage.store.look import all_clusters
from moorage.trust.seal import Seal
from tests.unit.store.conftest import a_cluster, a_template, added


async def test_every_clusters_row_is_read(store: Store, url: str) -> None:
    template = await store.templates.add(a_template(coe="kubernetes"))
    labels = {"kube_tag": "v1.20.2"}
    ours = await added(store, a_cluster(template, coe="kubernetes", labels=labels))
    theirs = await added(store, a_cluster(template, "two", project_id="theirs"))
    found = await all_clusters(url)
    assert [(each.uuid, each.coe, each.labels) for each in found] == [
        (ours.uuid, "kubernetes", labels),
        (theirs.uuid, "swarm", {}),
    ]


async def test_tables_of_another_version_stay_as_they_are(empty_url: str, seal: Seal) -> None:
    opened = await Store.open(empty_url, seal)
    await opened._database.write(
        lambda c: c.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'").rowcount
    )
    await opened.close()
    for _ in range(2):
        with pytest.raises(Refused, match="not of this version"):
            await all_clusters(empty_url)


async def test_an_empty_file_is_no_database_yet(tmp_path: Path) -> None:
    file = tmp_path / "moorage.db"
    file.touch()
    with pytest.raises(Refused, match="not of this version"):
        await all_clusters(f"sqlite:///{file}")
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()
