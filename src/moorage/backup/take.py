"""Taking a backup of an install that may be up.

The order keeps the parts consistent with each other: keys are only ever added, so they
are copied after the databases whose contents they open; and what Moorage knows is copied
before what Keystone knows, so that no cluster's project is missing, unless it was deleted.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import tempfile
from pathlib import Path
from typing import IO

from sqlalchemy.engine import make_url

from moorage import __version__
from moorage.backup import archive, databases
from moorage.backup.archive import Manifest, part_of
from moorage.backup.check import examine
from moorage.identity.home import KeystoneHome
from moorage.install import install_id
from moorage.model.errors import Refused
from moorage.settings import Settings

PREFIX = ".backup-"
"""Of the directory in the state where the parts lie meanwhile."""
KEYSTONE_FILES = ("admin.password", "moorage.password", "bootstrapped")
KEYSTONE_KEYS = ("fernet-keys", "credential-keys")


def take(settings: Settings, stream: IO[bytes]) -> Manifest:
    """Write the archive of the install to `stream`, checked as `check` does.

    Raises Refused where there is no install in the state directory, or its parts don't fit.
    """
    if not settings.seal_file.exists() or not settings.state.is_dir():
        raise Refused(f"There is no install in {settings.state}: it has no {settings.seal_file}.")
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=settings.state) as name:
        directory = Path(name)
        embedded = _is_keystone_ours(settings)
        _gather(settings, directory, embedded=embedded)
        found = sorted(path for path in directory.rglob("*") if path.is_file())
        manifest = Manifest(
            moorage=__version__,
            keystone=importlib.metadata.version("keystone") if embedded else None,
            made_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            host=settings.machine,
            state=str(settings.state),
            nodes=str(settings.nodes_directory),
            install=install_id(settings.state),
            parts={str(path.relative_to(directory)): part_of(path) for path in found},
        )
        examine(manifest, directory)
        archive.write(stream, manifest, directory)
    return manifest


def _is_keystone_ours(settings: Settings) -> bool:
    """A conductor needs none; but the API beside it in the same state may have one there."""
    is_there = KeystoneHome(settings.state).database.exists()
    return not settings.keystone and (settings.only != "conductor" or is_there)


def _gather(settings: Settings, directory: Path, *, embedded: bool) -> None:
    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite":
        databases.copy_sqlite(Path(str(url.database)), directory / archive.SQLITE)
    else:
        databases.copy_postgres(settings.database, directory / archive.PGDUMP)
    if embedded:
        _gather_keystone(KeystoneHome(settings.state), directory / archive.KEYSTONE)
    _copy(settings.seal_file, directory / archive.SEAL)
    _write(directory / archive.INSTALL, f"{install_id(settings.state)}\n".encode())
    kept = settings.state / archive.SETTINGS
    _write(directory / archive.SETTINGS, kept.read_bytes() if kept.exists() else json_of({}))


def _gather_keystone(home: KeystoneHome, target: Path) -> None:
    target.mkdir(mode=0o700)
    databases.copy_sqlite(home.database, target / home.database.name)
    for name in KEYSTONE_FILES:
        if (home.root / name).exists():
            _copy(home.root / name, target / name)
    for name in KEYSTONE_KEYS:
        for key in (home.root / name).iterdir():
            if key.name.isdecimal():  # a rotation's draft is none yet
                _copy(key, target / name / key.name)


def json_of(value: dict[str, object]) -> bytes:
    return json.dumps(value, indent=1).encode()


def _copy(source: Path, target: Path) -> None:
    _write(target, source.read_bytes())


def _write(target: Path, data: bytes) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
