"""Copies of databases: taken while others write, looked into, and put back.

SQLite's own online backup copies within one read transaction; in WAL mode it keeps no
writer waiting. PostgreSQL's `pg_dump` reads one snapshot. Passwords go to PostgreSQL's
tools by the environment: their argv can be read by everybody on the machine.

A PostgreSQL may hold what is others': only TABLES are ever saved, dropped or put back.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import make_url

from moorage.model.errors import Refused, RetryLater
from moorage.store.tables import metadata

BUSY_SECONDS = 60.0
PG_NAMES = {
    "application_name": "PGAPPNAME",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "gssencmode": "PGGSSENCMODE",
    "hostaddr": "PGHOSTADDR",
    "options": "PGOPTIONS",
    "passfile": "PGPASSFILE",
    "service": "PGSERVICE",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
"""libpq's variables, where they are not `PG` and the parameter's name (its manual, 34.15)."""
KEYS = ("ca_key", "coming_key", "secret")
"""The columns of a cluster that hold sealed keys; the second one isn't in every version."""
TABLES = (*sorted(metadata.tables), "alembic_version")
"""All that Moorage has had in any version: one that a migration drops has to stay named here."""
GONE_SECONDS = 3.0
"""PostgreSQL shows a connection for so long at the most after its client has ended."""
POLL_SECONDS = 0.1
NULL = "\\N"
"""As `COPY … TO` writes it."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a copy of Moorage's database says: its tables' version, and the sealed CA keys.

    `sealed` are pairs of a cluster's uuid and a sealed key.
    """

    revision: str | None
    sealed: tuple[tuple[str, bytes], ...]

    @property
    def clusters(self) -> frozenset[str]:
        return frozenset(uuid for uuid, _ in self.sealed)


def copy_sqlite(source: Path, target: Path) -> None:
    """A consistent copy in one file. Raises Refused where there is none, RetryLater if locked."""
    try:
        there = sqlite3.connect(
            f"file:{quote(str(source))}?mode=rw", uri=True, timeout=BUSY_SECONDS
        )
    except sqlite3.OperationalError:
        raise Refused(f"There is no database {source} that can be opened.") from None
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(there), closing(sqlite3.connect(target)) as here:
        try:
            there.backup(here)
            here.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError as error:
            raise RetryLater(f"The database {source} can't be read now: {error}.") from None


def sound_sqlite(path: Path, name: str) -> None:
    """Raises Refused where SQLite's own check finds something."""
    with closing(_read_only(path)) as connection:
        try:
            (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            said = str(error)
    if said != "ok":
        raise Refused(f"The database {name} in the backup is damaged: {said}.")


def look_sqlite(path: Path) -> Look:
    with closing(_read_only(path)) as connection:
        connection.row_factory = sqlite3.Row
        try:
            revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            rows = connection.execute("SELECT * FROM clusters").fetchall()
        except sqlite3.OperationalError as error:
            raise Refused(f"The database in the backup is none of Moorage's: {error}.") from None
    return Look(
        revision[0] if revision else None,
        tuple(
            (row["uuid"], row[name])
            for row in rows
            for name in KEYS
            if name in row.keys() and row[name] is not None  # noqa: SIM118 - a Row has values
        ),
    )


def copy_postgres(url: str, target: Path) -> None:
    """Raises Refused with what pg_dump says."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    _run(
        *("pg_dump", "--format=custom", "--no-owner", "--no-privileges", "--no-password"),
        *("--lock-wait-timeout=60s", f"--file={target}"),
        *(f"--table={name}" for name in TABLES),
        url=url,
    )


def look_postgres(path: Path) -> Look:
    """Reads all of it. Raises Refused where pg_restore can't."""
    _run("pg_restore", "--file=/dev/null", str(path))
    versions = list(_table(path, "alembic_version"))
    return Look(
        versions[0]["version_num"] if versions else None,
        tuple(
            (row["uuid"], bytes.fromhex(row[name].removeprefix("\\\\x")))
            for row in _table(path, "clusters")
            for name in KEYS
            if row.get(name, NULL) != NULL
        ),
    )


def is_empty_postgres(url: str) -> bool:
    """Whether the database has no table. Raises Refused where it can't be asked."""
    system = "'pg_catalog', 'information_schema'"
    question = f"SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ({system})"  # noqa: S608
    return int(_asked(url, question)) == 0


def refuse_in_use(url: str) -> None:
    """Raises Refused while a Moorage, of whatever machine, is connected to the database."""
    question = (
        "SELECT DISTINCT coalesce(host(client_addr), 'its own machine') FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE 'moorage%' "
        "AND pid <> pg_backend_pid()"
    )
    deadline = time.monotonic() + GONE_SECONDS
    while addresses := _asked(url, question).splitlines():
        if time.monotonic() > deadline:
            raise Refused(
                f"Moorage is up on that database, connected from {', '.join(sorted(addresses))}: "
                "end it there (`moorage down`), or choose another database."
            )
        time.sleep(POLL_SECONDS)


def restore_postgres(path: Path, url: str, *, clean: bool) -> None:
    """All of it or nothing. `clean`: Moorage's tables that are there go. Raises Refused.

    They all go, and not only those that are saved: beside tables of before an upgrade, those
    that it made would be in the way of the next one.
    """
    if not clean:
        _run(
            *("pg_restore", "--single-transaction", "--exit-on-error", "--no-owner"),
            *("--no-privileges", "--no-password"),
            *("--dbname", _environment(url).get("PGDATABASE", ""), str(path)),
            url=url,
        )
        return
    # pg_restore drops what is saved, and no more; only psql does both in one transaction.
    script = path.with_suffix(".sql")
    os.close(os.open(script, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    _run("pg_restore", "--no-owner", "--no-privileges", f"--file={script}", str(path))
    with script.open("rb") as file:
        # After that line psql takes no commands of its own, as `\!`, from what is restored.
        if b"\n\\restrict " not in file.read(4096):
            raise Refused(
                "This pg_restore lets a backup run commands (CVE-2025-8714): "
                "apt-get install -y postgresql-client"
            )
    drop = f"DROP TABLE IF EXISTS {', '.join(TABLES)}"
    _run(
        *("psql", "--no-psqlrc", "--no-password", "--quiet", "--single-transaction"),
        *("--set=ON_ERROR_STOP=1", "--output=/dev/null"),
        *("--command", "SET LOCAL client_min_messages = warning; SET LOCAL lock_timeout = '60s'"),
        *("--command", drop, "--file", str(script)),
        url=url,
    )


def _asked(url: str, question: str) -> str:
    """The answer's rows, a line each."""
    argv = ("psql", "--no-psqlrc", "--no-password", "--tuples-only", "--no-align")
    return _run(*argv, "--command", question, url=url)


def _read_only(path: Path) -> sqlite3.Connection:
    """`immutable`: nobody writes it, so nothing is laid beside it."""
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)


def _table(path: Path, name: str) -> Iterator[dict[str, str]]:
    """The rows of a dumped table, as `COPY … TO` writes them: every value as text, \\N for NULL."""
    columns: list[str] | None = None
    for line in _run("pg_restore", "--data-only", f"--table={name}", "--file=-", str(path)).split(
        "\n"
    ):
        if columns is None:
            if line.startswith("COPY "):
                inside = line[line.index("(") + 1 : line.index(")")]
                columns = [column.strip().strip('"') for column in inside.split(",")]
        elif line == "\\.":
            return
        else:
            yield dict(zip(columns, line.split("\t"), strict=True))


def _run(program: str, *words: str, url: str | None = None) -> str:
    found = shutil.which(program)
    if found is None:
        raise Refused(
            f"A PostgreSQL's backup needs {program}: apt-get install -y postgresql-client"
        )
    done = subprocess.run(
        [found, *words],
        env={**os.environ, **(_environment(url) if url else {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        raise Refused(f"{program} failed: {said[0].removeprefix(f'{program}: ')}")
    return done.stdout


def _environment(url: str) -> dict[str, str]:
    """What libpq reads: https://www.postgresql.org/docs/15/libpq-envars.html"""
    parts = make_url(url)
    known = {
        "host": parts.host,
        "port": parts.port,
        "user": parts.username,
        "password": parts.password,
        "dbname": parts.database or parts.username,
        **parts.query,
    }
    names = {**PG_NAMES, "dbname": "PGDATABASE"}
    return {
        names.get(name, f"PG{name.upper()}"): str(value)
        for name, value in known.items()
        if value is not None
    }
