"""An install as it lies in its state directory, with no process behind it."""

from __future__ import annotations

import asyncio
import io
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from moorage.backup import take
from moorage.identity.home import KeystoneHome
from moorage.install import keep_install_id
from moorage.settings import Settings
from moorage.store import EVERYTHING, Store
from moorage.trust.seal import Seal
from tests.postgres import PostgresServer, private_server
from tests.unit.store.conftest import CA, a_cluster, a_template

T = TypeVar("T")


@dataclass
class Saved:
    """An install in a directory of the test's, and what is in it."""

    settings: Settings
    clusters: list[str] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.settings.state

    def make(self) -> None:
        """Lay out what a server that ran once leaves there."""
        self.state.mkdir(mode=0o711)
        keep_install_id(self.state)
        self.clusters = in_store(self.settings, self.add)
        home = KeystoneHome(self.state)
        home.prepare()
        for name in ("fernet-keys/0", "fernet-keys/1", "credential-keys/0"):
            (home.root / name).write_text(f"key {name}")
        with closing(sqlite3.connect(home.database)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE project (id TEXT)")
            connection.execute("INSERT INTO project VALUES ('ours')")
            connection.execute("PRAGMA user_version = 1")
            connection.commit()

    @staticmethod
    async def add(store: Store) -> list[str]:
        template = await store.templates.add(a_template())
        made = [a_cluster(template, f"c{number}") for number in range(3)]
        for cluster in made:
            await store.clusters.add(cluster, CA, {}, by="alice")
        return [cluster.uuid for cluster in made]

    def saved(self) -> bytes:
        stream = io.BytesIO()
        take(self.settings, stream)
        return stream.getvalue()


def in_store(settings: Settings, work: Callable[[Store], Awaitable[T]]) -> T:
    """Do `work` as the server would, over a store that is opened for it."""

    async def run() -> T:
        store = await Store.open(settings.database, Seal.load_or_create(settings.seal_file))
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def keys_open(settings: Settings, uuids: list[str]) -> bool:
    async def look(store: Store) -> bool:
        return [(await store.clusters.ca(uuid)).current for uuid in uuids] == [CA] * len(uuids)

    return in_store(settings, look)


def known(settings: Settings) -> list[str]:
    async def look(store: Store) -> list[str]:
        from moorage.model.page import Page  # noqa: PLC0415

        return [cluster.uuid for cluster in await store.clusters.list(EVERYTHING, Page())]

    return in_store(settings, look)


def tree(top: Path) -> dict[str, bytes]:
    """Every file below, with its content."""
    return {
        str(path.relative_to(top)): path.read_bytes() if path.is_file() else b""
        for path in sorted(top.rglob("*"))
    }


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    made = Saved(Settings(state=tmp_path / "old"))
    made.make()
    return made


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with private_server() as server:
        yield server
