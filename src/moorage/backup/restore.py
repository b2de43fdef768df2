"""Putting a backup back into a state directory.

While it is done the state holds a directory `.restoring`; where that is found, Moorage
does not start, and another restore goes on: cut off anywhere, it may be run again. What
was there is set aside into `before-restore-<time>` and never deleted.

Nodes that still run are adopted: what they carry is the install's name, which comes back
with the backup, and they are found in the directory where they lie.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import make_url

from moorage.backup import archive, databases
from moorage.backup.check import Opened
from moorage.backup.take import PREFIX, json_of
from moorage.install import install_id
from moorage.model.errors import Refused

RESTORING = ".restoring"
DATABASE = "database"
"""In `.restoring`: which PostgreSQL is being filled, as a digest of its URL."""
ASIDE = "before-restore-"
SQLITE = "moorage.db"
OURS = (SQLITE, f"{SQLITE}-wal", f"{SQLITE}-shm", "keystone", "keys", "settings.json")
OURS_TOO = ("install", "clouds.yaml")


@dataclass(frozen=True, slots=True)
class Placed:
    """What was done. `nodes`: where nodes were found, if they were; `aside`: what was there."""

    nodes: Path | None
    aside: Path | None


def leftovers(state: Path) -> list[Path]:
    """The directories that backups and restores may leave in the state; they hold secrets."""
    return [state / RESTORING, *state.glob(f"{ASIDE}*"), *state.glob(f"{PREFIX}*")]


def refuse_occupied(state: Path, name: str, *, force: bool) -> None:
    """Raises Refused where an install is in `state` that isn't to be replaced.

    `force` lets the install `name` be replaced by its own backup; another one never is.
    """
    if (state / RESTORING).exists() or not list(_present(state)):
        return
    here = install_id(state)
    if here != name:
        raise Refused(
            f"{state} holds another install ({here}; the backup is of {name}): choose another "
            "directory by --state, or take that one off the machine by `moorage down --purge`."
        )
    if not force:
        raise Refused(
            f"{state} is not empty: it holds this very install. With --force it is replaced by "
            f"the backup, and what is there is set aside in {state}/{ASIDE}…"
        )


def place(backup: Opened, state: Path, *, database: str | None, force: bool) -> Placed:
    """Put it into `state`. `database`: the URL of the PostgreSQL for one that is of such.

    Without it, that is the one that was saved, if it is empty: what `force` replaces has to be
    named, for the saved one may be what the production uses.

    The caller holds the state directory and the install's name. Raises Refused, with nothing
    changed, where something is in the way.
    """
    refuse_occupied(state, backup.manifest.install, force=force)
    url = _database(backup, state, database)
    if url is not None:
        if force and database is None:
            raise Refused(
                "With --force Moorage's tables in a PostgreSQL are replaced, and nothing of them "
                "is set aside: name it by --database (or MOORAGE_DATABASE_URL)."
            )
        databases.refuse_in_use(url)
    begun = state / RESTORING / DATABASE
    named = "" if url is None else hashlib.sha256(url.encode()).hexdigest()
    again = begun.exists() and begun.read_text() == named  # this very database, by a cut-off one
    if url is not None and not (force or again) and not databases.is_empty_postgres(url):
        which = "The database" if database else "The database that was saved"
        raise Refused(
            f"{which} is not empty: name an empty one by --database; with --database and --force "
            "Moorage's tables in it are replaced."
        )
    fresh = not (state / RESTORING).exists()
    state.mkdir(mode=0o711, parents=True, exist_ok=True)
    (state / RESTORING).mkdir(mode=0o700, exist_ok=True)
    if url is not None:
        begun.unlink(missing_ok=True)
        _write(begun, named.encode())
        _sync(state / RESTORING)
        try:
            databases.restore_postgres(backup.directory / archive.PGDUMP, url, clean=force or again)
        except Refused:
            if fresh:
                shutil.rmtree(state / RESTORING)
            raise
    aside = _set_aside(state)
    nodes = _nodes(backup, state)
    _put(backup, state)
    _write(state / archive.SETTINGS, json_of(_settings(backup, url, nodes)))
    _sync(state)
    shutil.rmtree(state / RESTORING)
    _sync(state)
    return Placed(nodes if nodes is not None else _existing(state / "nodes"), aside)


def _present(state: Path) -> Iterator[Path]:
    for name in (*OURS, *OURS_TOO):
        if (state / name).exists():
            yield state / name


def _database(backup: Opened, state: Path, given: str | None) -> str | None:
    """The URL of the PostgreSQL to restore into; None for a SQLite file, which is in `state`."""
    kept = backup.settings.get("database_url")
    if not backup.is_postgres:
        if given is None:
            return None
        if make_url(given).get_backend_name() != "sqlite":
            raise Refused("The backup holds a SQLite database, which can't go into a PostgreSQL.")
        here, there = state / SQLITE, Path(str(make_url(given).database))
        if here != there:
            raise Refused(
                f"A SQLite database comes back as {here}, and not as {there}: restore it without "
                "--database and MOORAGE_DATABASE_URL. Then start Moorage without them too, or move "
                "it there first, else Moorage makes an empty one there."
            )
        return None
    url = given or kept
    if url is None:
        raise Refused("The backup holds a PostgreSQL's database: say by --database where it goes.")
    if make_url(url).get_backend_name() == "sqlite":
        raise Refused("The backup holds a PostgreSQL's database: it can't go into SQLite.")
    return str(url)


def _set_aside(state: Path) -> Path | None:
    """Move what is there out of the way; a cut-off restore's files too."""
    found = list(_present(state))
    if not found:
        return None
    now = datetime.datetime.now(datetime.UTC)
    aside = state / f"{ASIDE}{now:%Y%m%dT%H%M%S%f}"
    aside.mkdir(mode=0o700)
    for path in found:
        path.rename(aside / path.name)
    _sync(aside)
    _sync(state)
    return aside


def _put(backup: Opened, state: Path) -> None:
    """The database last: nothing is there to be served before its keys are."""
    for name in sorted(backup.manifest.parts, key=lambda name: name == archive.SQLITE):
        match name:
            case archive.SETTINGS | archive.PGDUMP:
                continue
            case archive.SQLITE:
                target = state / SQLITE
            case archive.SEAL:
                target = state / "keys" / "seal.key"
            case _:
                target = state / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as to:
            with (backup.directory / name).open("rb") as source:
                shutil.copyfileobj(source, to)
            to.flush()
            os.fsync(to.fileno())
        _sync(target.parent)


def _nodes(backup: Opened, state: Path) -> Path | None:
    """Where the nodes are that still may run, if that isn't where they are looked for anyway."""
    former = Path(backup.manifest.nodes)
    return former if former.is_dir() and former != state / "nodes" else None


def _existing(path: Path) -> Path | None:
    return path if path.is_dir() else None


def _settings(backup: Opened, url: str | None, nodes: Path | None) -> dict[str, object]:
    """What was kept, with the places corrected: the key and a SQLite file are in the state now."""
    kept = {
        name: value
        for name, value in backup.settings.items()
        if name not in {"key_file", "database_url", "nodes", "state"}
    }
    if url is not None:
        kept["database_url"] = url
        kept["machine"] = backup.manifest.host  # its local clusters are at home there
    if nodes is not None:
        kept["nodes"] = str(nodes)
    return kept


def _write(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
