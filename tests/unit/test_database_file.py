"""The SQLite file that a server makes is its owner's only, however its URL is written."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from moorage import app
from moorage.cli import choices
from moorage.settings import Settings


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """That of the server."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    "form", ["sqlite:///{}", "sqlite+pysqlite:///{}", "sqlite:///{}?timeout=30", None]
)
def test_nobody_else_reads_it(tmp_path: Path, form: str | None) -> None:
    state = tmp_path / "state"
    file = state / "moorage.db" if form is None else tmp_path / "data" / "m.db"
    file.parent.mkdir()
    url = None if form is None else SecretStr(form.format(file))
    settings = Settings(state=state, database_url=url)
    if url:
        assert choices.load(state, {"database_url": url.get_secret_value()}).database
    app._prepare(settings)

    async def run() -> None:
        store = await app.open_store(settings)
        try:
            for path in file.parent.glob("m*"):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        finally:
            await store.close()

    asyncio.run(run())
    assert file.exists()
    assert not list(file.parent.glob("*[?]*")), "a file by the name of a query"


def test_a_postgresql_is_no_file(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path, database_url=SecretStr("postgresql://m:x@[db/m"))
    app._prepare(settings)  # what is wrong with the URL is said by who connects
    assert list(tmp_path.iterdir()) == []
