"""Looking into a backup: whether it would bring the install back.

Checked are: every part's sum; that the databases are sound, by SQLite's integrity_check or
by pg_restore reading all; that their tables are of a version that this Moorage knows;
that the seal key opens the key of every cluster's CA; that Keystone's keys and passwords
are there, and that its tables are not a newer Keystone's.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from moorage.backup import archive, databases
from moorage.backup.archive import FOREIGN, Manifest
from moorage.backup.databases import Look
from moorage.model.errors import Refused
from moorage.store.migrate import known_versions
from moorage.trust.seal import Seal, SealBroken

STAGING = ".restore-"
NEEDED_OF_KEYSTONE = (
    r"keystone/keystone\.db",
    r"keystone/admin\.password",
    r"keystone/moorage\.password",
    r"keystone/fernet-keys/\d+",
    r"keystone/credential-keys/\d+",
)


@dataclass(frozen=True, slots=True)
class Opened:
    """A backup that was found good, its parts in `directory`."""

    manifest: Manifest
    directory: Path
    clusters: int
    settings: dict[str, Any]

    @property
    def is_postgres(self) -> bool:
        return archive.PGDUMP in self.manifest.parts


@contextmanager
def opened(stream: IO[bytes], near: Path) -> Iterator[Opened]:
    """Unpack and check it, in a directory beside `near` that is gone afterwards.

    Raises Refused with the reason for whatever is not a whole, sound, known backup.
    """
    parent = near.parent
    while not parent.is_dir():
        parent = parent.parent
    with tempfile.TemporaryDirectory(prefix=STAGING, dir=parent) as name:
        directory = Path(name)
        manifest = archive.unpack(stream, directory)
        yield examine(manifest, directory)


def examine(manifest: Manifest, directory: Path) -> Opened:
    """The parts, by what they hold. Raises Refused."""
    settings = _settings(directory)
    _refuse_missing(manifest)
    look = _look(directory)
    if look.revision not in known_versions():
        raise Refused(
            f"The database in the backup is at version {look.revision!r}, which this Moorage does "
            f"not know: it was made by Moorage {manifest.moorage}. Install that, or a newer one."
        )
    seal = Seal.load_or_create(directory / archive.SEAL)
    closed = sorted({uuid for uuid, sealed in look.sealed if not _opens(seal, uuid, sealed)})
    if closed and not seal.has(settings.get("key_lost")):
        raise Refused(
            f"The seal key in the backup does not open the CA keys of {len(closed)} clusters "
            f"({', '.join(closed[:3])}{' …' if len(closed) > 3 else ''}): it is another one's."
        )
    if manifest.keystone is not None:
        databases.sound_sqlite(directory / "keystone/keystone.db", "of Keystone")
        here = importlib.metadata.version("keystone")
        if _numbers(manifest.keystone) > _numbers(here):
            raise Refused(
                f"The backup is of Keystone {manifest.keystone}, newer than the one here ({here}): "
                f"install Moorage {manifest.moorage}."
            )
    return Opened(manifest, directory, len(look.clusters), settings)


def _refuse_missing(manifest: Manifest) -> None:
    names = list(manifest.parts)
    wanted = [r"database\.(sqlite|pgdump)", r"seal\.key", r"settings\.json", "install"]
    if manifest.keystone is not None:
        wanted += NEEDED_OF_KEYSTONE
    for pattern in wanted:
        if not any(re.fullmatch(pattern, name) for name in names):
            raise Refused(f"The backup is not whole: it has no {pattern.replace(chr(92), '')}.")


def _look(directory: Path) -> Look:
    if (directory / archive.PGDUMP).exists():
        return databases.look_postgres(directory / archive.PGDUMP)
    databases.sound_sqlite(directory / archive.SQLITE, "of Moorage")
    return databases.look_sqlite(directory / archive.SQLITE)


def _settings(directory: Path) -> dict[str, Any]:
    try:
        value = json.loads((directory / archive.SETTINGS).read_bytes())
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict):
        raise Refused(FOREIGN)
    return value


def _opens(seal: Seal, uuid: str, sealed: bytes) -> bool:
    try:
        seal.open(sealed, uuid)
    except SealBroken:
        return False
    return True


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]
