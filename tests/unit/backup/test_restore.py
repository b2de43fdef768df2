"""What comes back from a backup, where it may go, and what a cut-off restore leaves."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from moorage import app
from moorage.backup import leftovers, opened, place, take
from moorage.backup.restore import RESTORING, Placed
from moorage.cli import choices
from moorage.install import install_id
from moorage.model.errors import Refused
from moorage.settings import Settings
from moorage.store import Store
from tests.postgres import PostgresServer
from tests.unit.backup.conftest import Saved, in_store, keys_open, known, tree
from tests.unit.store.conftest import CA, a_cluster, a_template


def put_back(
    data: bytes, state: Path, *, database: str | None = None, force: bool = False
) -> Placed:
    with opened(io.BytesIO(data), state) as backup:
        return place(backup, state, database=database, force=force)


def test_an_install_comes_back_elsewhere_as_it_was(saved: Saved, tmp_path: Path) -> None:
    name = install_id(saved.state)
    kept = {"port": 9600, "key_file": "/gone/seal.key", "quota_nodes": 7}
    (saved.state / "settings.json").write_text(json.dumps(kept))
    data = saved.saved()
    keystone = tree(saved.state / "keystone")
    shutil.rmtree(saved.state)
    new = tmp_path / "deep" / "new"
    placed = put_back(data, new)
    settings = choices.load(new)
    assert install_id(new) == name
    assert (settings.port, settings.key_file, settings.quota_nodes) == (9600, None, 7)
    assert sorted(known(settings)) == sorted(saved.clusters)
    assert keys_open(settings, saved.clusters)
    for path in ("admin.password", "moorage.password", "fernet-keys/0", "credential-keys/0"):
        assert (new / "keystone" / path).read_bytes() == keystone[path]
    with sqlite3.connect(new / "keystone" / "keystone.db") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert placed == Placed(nodes=None, aside=None)
    for made in new.rglob("*"):
        mode = stat.S_IMODE(made.stat().st_mode)
        assert mode & 0o077 == 0, (made, oct(mode))
    assert not list(tmp_path.rglob(".restor*"))


def test_nothing_is_left_in_the_state_that_was_saved(saved: Saved) -> None:
    before = set(tree(saved.state))
    saved.saved()
    assert {name for name in tree(saved.state) if not name.endswith(("-wal", "-shm"))} == {
        name for name in before if not name.endswith(("-wal", "-shm"))
    }


def test_nodes_that_are_still_there_are_found_again(saved: Saved, tmp_path: Path) -> None:
    data = saved.saved()
    nodes = saved.state / "nodes"
    shutil.rmtree(saved.state)
    nodes.mkdir(parents=True)
    assert put_back(data, tmp_path / "new").nodes == nodes
    assert choices.load(tmp_path / "new").nodes_directory == nodes
    again = Saved(choices.load(tmp_path / "new")).saved()
    (tmp_path / "gone").mkdir()
    assert put_back(again, tmp_path / "third").nodes == nodes, "from a restored one as well"
    assert put_back(data, saved.state).nodes == nodes, "where they lie: beside them"
    assert choices.load(saved.state).nodes is None


def test_it_is_consistent_while_others_write(saved: Saved, tmp_path: Path) -> None:
    """A template and its cluster come one after the other: never the second alone."""
    stop, wrote = threading.Event(), threading.Event()

    async def write(store: Store) -> int:
        count = 0
        while not stop.is_set():
            template = await store.templates.add(a_template(name=None))
            await store.clusters.add(a_cluster(template, f"busy{count}"), CA, {}, by="a")
            count += 1
            wrote.set()
        return count

    counts: list[int] = []
    writer = threading.Thread(target=lambda: counts.append(in_store(saved.settings, write)))
    writer.start()
    try:
        assert wrote.wait(20)
        copies = [saved.saved() for _ in range(5)]
    finally:
        stop.set()
        writer.join()
    sizes = []
    for number, data in enumerate(copies):
        put_back(data, tmp_path / f"new{number}")
        with sqlite3.connect(tmp_path / f"new{number}" / "moorage.db") as connection:
            lone = "SELECT count(*) FROM clusters WHERE template_uuid NOT IN (SELECT uuid FROM "
            assert connection.execute(f"{lone} cluster_templates)").fetchone() == (0,)
            sizes.append(connection.execute("SELECT count(*) FROM clusters").fetchone()[0])
    assert sizes == sorted(sizes)
    assert 3 < sizes[0] <= counts[0] + 3


def test_an_install_is_not_replaced_unasked(saved: Saved) -> None:
    data = saved.saved()
    before = tree(saved.state)
    with pytest.raises(Refused, match="--force"):
        put_back(data, saved.state)
    assert tree(saved.state).keys() == before.keys()
    placed = put_back(data, saved.state, force=True)
    assert placed.aside is not None
    assert (placed.aside / "moorage.db").exists()
    assert (placed.aside / "keys" / "seal.key").exists()
    assert keys_open(saved.settings, saved.clusters)
    assert placed.aside in leftovers(saved.state), "a purge takes it away"


def test_another_install_is_never_replaced(saved: Saved, tmp_path: Path) -> None:
    other = Saved(Settings(state=tmp_path / "other"))
    other.make()
    before = tree(other.state)
    for force in (False, True):
        with pytest.raises(Refused, match="another install"):
            put_back(saved.saved(), other.state, force=force)
    assert tree(other.state) == before


def test_a_restore_that_was_cut_off_is_run_again(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(BaseException):
        """As SIGKILL: nobody catches it."""

    data = saved.saved()
    real = os.fsync
    for last in range(1, 60):
        state = tmp_path / f"new{last}"
        left = [last]

        def cut(descriptor: int, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] <= 0:
                raise Cut
            real(descriptor)

        monkeypatch.setattr(os, "fsync", cut)
        try:
            put_back(data, state)
        except Cut:
            monkeypatch.setattr(os, "fsync", real)
        else:
            break
        if (state / RESTORING).exists():
            with pytest.raises(Refused, match="cut off"):
                app._prepare(Settings(state=state))
            put_back(data, state)
        assert keys_open(Settings(state=state), saved.clusters), last
        assert not (state / RESTORING).exists()
    else:
        raise AssertionError("it never came to its end")
    assert last > 5


def test_no_install_no_backup(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no install"):
        take(Settings(state=tmp_path / "none"), io.BytesIO())
    assert not (tmp_path / "none").exists()


def test_a_postgresql_comes_back_in_another_database(
    tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres.database() as name, postgres.database() as empty:
        settings = Settings(
            state=tmp_path / "old",
            database_url=SecretStr(postgres.url(name)),
            machine="the-former-machine",
        )
        saved = Saved(settings)
        saved.make()
        choices.keep(settings)
        data = saved.saved()
        assert (saved.state / "moorage.db").exists() is False
        with pytest.raises(Refused, match="not empty"):
            put_back(data, tmp_path / "new")
        assert not (tmp_path / "new").exists()
        put_back(data, tmp_path / "new", database=postgres.url(empty))
        restored = choices.load(tmp_path / "new")
        assert restored.database == postgres.url(empty)
        assert restored.machine == "the-former-machine", "its clusters are at home there"
        assert sorted(known(restored)) == sorted(saved.clusters)
        assert keys_open(restored, saved.clusters)
        put_back(data, tmp_path / "new", database=postgres.url(empty), force=True)
        assert keys_open(restored, saved.clusters)
        wrong = postgres.url(empty).replace(postgres.password, "hush")
        with pytest.raises(Refused, match="password authentication failed") as caught:
            put_back(data, tmp_path / "third", database=wrong)
        assert "hush" not in caught.value.reason
        with pytest.raises(Refused, match="can't go into"):
            put_back(data, tmp_path / "third", database="sqlite:////tmp/x.db")
        assert not (tmp_path / "third").exists()


def test_a_sqlite_file_does_not_go_into_a_postgresql(saved: Saved, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="can't go into a PostgreSQL"):
        put_back(saved.saved(), tmp_path / "new", database="postgresql://m:secret@db/m")
    assert not (tmp_path / "new").exists()


def test_a_sqlite_file_comes_back_in_the_state_and_nowhere_else(
    saved: Saved, tmp_path: Path
) -> None:
    """Where a variable names another file, the server would make an empty one there."""
    data, new = saved.saved(), tmp_path / "new"
    with pytest.raises(Refused, match="without --database and MOORAGE_DATABASE_URL") as caught:
        put_back(data, new, database=f"sqlite:///{tmp_path / 'data' / 'moorage.db'}")
    assert str(tmp_path / "data" / "moorage.db") in caught.value.reason
    assert not new.exists()
    put_back(data, new, database=f"sqlite:///{new / 'moorage.db'}?timeout=30")
    assert sorted(known(choices.load(new))) == sorted(saved.clusters)


def test_a_cut_off_restore_goes_on_in_its_own_database_only(
    tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(BaseException):
        """As SIGKILL: nobody catches it."""

    def cut(*_: object) -> None:
        raise Cut

    with postgres.database() as name, postgres.database() as empty:
        saved = Saved(Settings(state=tmp_path / "old", database_url=SecretStr(postgres.url(name))))
        saved.make()
        data, new = saved.saved(), tmp_path / "new"
        with monkeypatch.context() as patched:
            patched.setattr("moorage.backup.restore._put", cut)
            with pytest.raises(Cut):
                put_back(data, new, database=postgres.url(empty))
        with pytest.raises(Refused, match="not empty"):
            put_back(data, new, database=postgres.url(name))
        put_back(data, new, database=postgres.url(empty))
        assert keys_open(choices.load(new), saved.clusters)
        assert not (new / RESTORING).exists()
