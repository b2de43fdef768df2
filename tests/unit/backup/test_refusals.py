"""What is no backup, or none any more, is refused with the reason; nothing is written then."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from moorage.backup import archive, opened
from moorage.model.errors import Refused
from moorage.settings import Settings
from moorage.trust.seal import Seal
from tests.postgres import PostgresServer
from tests.unit.backup.conftest import Saved, tree


def parts(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]


def packed(entries: dict[str, bytes], *special: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
            if name == archive.MANIFEST:
                for other in special:
                    tar.addfile(other)
    return stream.getvalue()


def forged(data: bytes, change: Callable[[dict[str, bytes], dict[str, Any]], None]) -> bytes:
    """As somebody writes it who knows the format: with sums that are right."""
    entries = parts(data)
    manifest = json.loads(entries[archive.MANIFEST])
    change(entries, manifest)
    for name, content in entries.items():
        if name not in {archive.MANIFEST, archive.SUM}:
            digest = hashlib.sha256(content).hexdigest()
            manifest["parts"][name] = {"size": len(content), "sha256": digest}
    told = json.dumps(manifest).encode()
    entries[archive.MANIFEST] = told
    entries[archive.SUM] = hashlib.sha256(told).hexdigest().encode()
    return packed(entries)


def refusal(data: bytes, state: Path) -> str:
    before = tree(state.parent)
    with pytest.raises(Refused) as caught, opened(io.BytesIO(data), state):
        pass
    assert tree(state.parent) == before
    return caught.value.reason


@pytest.fixture
def data(saved: Saved) -> bytes:
    return saved.saved()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place" / "new"


def test_a_good_one_is_good(data: bytes, state: Path) -> None:
    with opened(io.BytesIO(data), state) as backup:
        assert backup.clusters == 3
    assert opened_again(forged(data, lambda _e, _m: None), state), "the forger forges well"
    assert not list(state.parent.iterdir())


def opened_again(data: bytes, state: Path) -> bool:
    with opened(io.BytesIO(data), state):
        return True


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        b"\0" * 20_000,
        b"PK\3\4 something else" * 1000,
        b"x",
        packed({"etc/passwd": b"root"}),
        packed({archive.MANIFEST: b"{}"}),
        packed({archive.MANIFEST: b'{"kind": "a snapshot", "format": 1}'}),
        packed({archive.MANIFEST: b"\xff\xfe"}),
        packed({archive.MANIFEST: b"[]"}),
    ],
)
def test_what_is_none(foreign: bytes, state: Path) -> None:
    assert "not a backup of Moorage" in refusal(foreign, state)


def test_one_that_was_cut_off_anywhere(data: bytes, state: Path) -> None:
    chance = random.Random(1)
    entry = len(data.rstrip(b"\0"))
    for size in {512, 1024, entry - 1, *(chance.randrange(1, entry) for _ in range(25))}:
        assert refusal(data[:size], state), size


def test_one_that_was_altered_anywhere(data: bytes, state: Path) -> None:
    """What no sum covers (a time, an owner's name) changes nothing that is restored."""
    chance = random.Random(2)
    whole = parts(data)
    harmless = 0
    for _ in range(60):
        place = chance.randrange(len(data))
        changed = bytearray(data)
        changed[place] ^= 1 << chance.randrange(8)
        try:
            with opened(io.BytesIO(bytes(changed)), state) as backup:
                for name in backup.manifest.parts:
                    assert (backup.directory / name).read_bytes() == whole[name]
                harmless += 1
        except Refused:
            pass
    assert harmless < 30
    assert not list(state.parent.iterdir())


def test_every_part_and_the_manifest_are_covered(data: bytes, state: Path) -> None:
    whole = parts(data)
    for name, content in whole.items():
        changed = {**whole, name: content[:-1] + bytes([content[-1] ^ 1])}
        reason = refusal(packed(changed), state)
        assert "damaged" in reason or "not a backup" in reason, (name, reason)
        without = {other: text for other, text in whole.items() if other != name}
        assert refusal(packed(without), state)


def test_no_name_leads_out_of_the_archive(data: bytes, state: Path) -> None:
    whole = parts(data)
    for name in (
        "../evil",
        "/etc/evil",
        "keystone/../../evil",
        "keystone/fernet-keys/../../../evil",
        "keystone/fernet-keys/0/../1",
        "keys/seal.key",
        "moorage.pid",
        "nodes/x/config.json",
        "",
    ):

        def smuggle(entries: dict[str, bytes], _: dict[str, Any], name: str = name) -> None:
            entries[name] = b"evil"

        assert "not a backup" in refusal(forged(data, smuggle), state), name
        assert "does not belong" in refusal(packed({**strip(whole), name: b"evil"}), state)


def strip(entries: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in entries.items() if name != archive.SUM}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_only_plain_files_are_taken(data: bytes, state: Path, kind: bytes) -> None:
    whole = parts(data)
    entry = tarfile.TarInfo("seal.key")
    entry.type, entry.linkname = kind, "/etc/shadow"
    whole.pop("seal.key")
    assert "does not belong" in refusal(packed(whole, entry), state)


def test_nothing_comes_twice(data: bytes, state: Path) -> None:
    twice = io.BytesIO()
    with tarfile.open(fileobj=twice, mode="w") as tar:
        for name, content in [*strip(parts(data)).items(), ("seal.key", b"other")]:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    assert "does not belong" in refusal(twice.getvalue(), state)


def test_a_newer_format_is_told_at_once(data: bytes, state: Path) -> None:
    def newer(entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
        manifest |= {"format": 2, "moorage": "9.1", "more": []}
        entries["something/new"] = b""

    assert "newer Moorage (9.1)" in refusal(forged(data, newer), state)


def with_sql(entries: dict[str, bytes], tmp: Path, statement: str) -> None:
    tmp.write_bytes(entries[archive.SQLITE])
    with sqlite3.connect(tmp) as connection:
        connection.execute(statement)
    connection.close()
    entries[archive.SQLITE] = tmp.read_bytes()
    tmp.unlink()


def test_newer_tables(data: bytes, state: Path, tmp_path: Path) -> None:
    def newer(entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
        manifest["moorage"] = "9.1"
        with_sql(entries, tmp_path / "db", "UPDATE alembic_version SET version_num = '9999'")

    assert "'9999', which this Moorage does not know: it was made by Moorage 9.1" in refusal(
        forged(data, newer), state
    )


def test_a_newer_keystone(data: bytes, state: Path) -> None:
    def newer(_: dict[str, bytes], manifest: dict[str, Any]) -> None:
        manifest["keystone"] = "999.0.0"

    assert "Keystone 999.0.0, newer" in refusal(forged(data, newer), state)


def test_a_damaged_database_with_the_right_sum(data: bytes, state: Path) -> None:
    def damage(entries: dict[str, bytes], _: dict[str, Any]) -> None:
        content = bytearray(entries[archive.SQLITE])
        content[4096 * 2 : 4096 * 3] = b"\xff" * 4096
        entries[archive.SQLITE] = bytes(content)

    assert "damaged" in refusal(forged(data, damage), state)


def test_a_seal_key_of_another(data: bytes, state: Path) -> None:
    def swap(entries: dict[str, bytes], _: dict[str, Any]) -> None:
        entries[archive.SEAL] = b"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n"

    assert "does not open the CA keys of 3 clusters" in refusal(forged(data, swap), state)


def test_an_install_whose_parts_do_not_fit_is_not_saved(saved: Saved) -> None:
    key_file, settings = saved.settings.seal_file, saved.state / "settings.json"
    key_file.write_text("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
    with pytest.raises(Refused, match="does not open"):
        saved.saved()
    settings.write_text(json.dumps({"key_lost": Seal.load_or_create(key_file).name}))
    assert saved.saved(), "it was said that the key is lost"
    key_file.unlink()
    Seal.load_or_create(key_file)
    with pytest.raises(Refused, match="does not open"):
        saved.saved()  # of this one nothing was said


@pytest.mark.parametrize("part", ["seal.key", "install", "keystone/admin.password"])
def test_one_that_is_not_whole(data: bytes, state: Path, part: str) -> None:
    def drop(entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
        del entries[part], manifest["parts"][part]

    assert "not whole" in refusal(forged(data, drop), state)


def test_an_install_without_its_own_keystone(tmp_path: Path, state: Path) -> None:
    saved = Saved(Settings(state=tmp_path / "bare", keystone="https://cloud:5000/v3"))
    saved.make()
    with opened(io.BytesIO(saved.saved()), state) as backup:
        assert backup.manifest.keystone is None
        assert not [name for name in backup.manifest.parts if name.startswith("keystone/")]


def test_an_install_that_only_conducts(
    tmp_path: Path, state: Path, postgres: PostgresServer
) -> None:
    """It needs no Keystone. Where one is, beside the API in the same state, it is saved."""
    with postgres.database() as name:
        url = SecretStr(postgres.url(name))
        settings = Settings(state=tmp_path / "old", only="conductor", database_url=url)
        saved = Saved(settings)
        saved.make()
        with opened(io.BytesIO(saved.saved()), state) as backup:
            assert backup.manifest.keystone is not None
        shutil.rmtree(saved.state / "keystone")
        with opened(io.BytesIO(saved.saved()), state) as backup:
            assert backup.manifest.keystone is None
            assert backup.clusters == 3
        both = Saved(settings.model_copy(update={"only": None}))
        with pytest.raises(Refused, match=r"no database .*keystone"):
            both.saved()
