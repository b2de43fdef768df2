"""The server, where the key file does not open what is in the database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from moorage import app
from moorage.model.errors import Refused
from moorage.settings import Settings
from moorage.store import Store
from moorage.trust import Seal
from tests.unit.store.conftest import CA, a_cluster, a_template


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """That of an install with a cluster."""
    file = tmp_path / "mount" / "seal.key"

    async def make() -> None:
        url = Settings(state=tmp_path).database
        store = await Store.open(url, Seal.load_or_create(file))
        template = await store.templates.add(a_template())
        await store.clusters.add(a_cluster(template, "c"), CA, {}, by="alice")
        await store.close()

    asyncio.run(make())
    return file


def start(state: Path, key_file: Path, key_lost: str | None) -> None:
    async def run() -> None:
        settings = Settings(state=state, key_file=key_file, key_lost=key_lost)
        await (await app.open_store(settings)).close()

    asyncio.run(run())


def test_an_empty_mount_point_is_not_taken_for_the_key_that_was_lost(
    tmp_path: Path, key_file: Path
) -> None:
    key_file.unlink()
    with pytest.raises(Refused, match="--key-lost"):
        start(tmp_path, key_file, None)
    said = Seal.load_or_create(key_file).name
    start(tmp_path, key_file, said)
    kept = key_file.read_bytes()
    key_file.write_bytes(b"bmV3IGtleSBuZXcga2V5IG5ldyBrZXkgbmV3IGtleSE=\n" + kept)
    start(tmp_path, key_file, said)  # a new one was put on top of it
    key_file.unlink()  # as when the volume with the file isn't mounted
    with pytest.raises(Refused, match="Put that key file back"):
        start(tmp_path, key_file, said)
