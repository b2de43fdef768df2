"""Bringing a database to the newest version of the tables."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from moorage.model.errors import Refused

SCRIPTS = Path(__file__).parent / "migrations"


def migrate(connection: Connection) -> None:
    """Run what is missing, within the caller's transaction: all of it, or nothing.

    Raises Refused for a database that a newer Moorage has written.
    """
    config = _config()
    scripts = ScriptDirectory.from_config(config)
    known = known_versions()
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in known:
        raise Refused(
            f"The database is at version {found!r}, which this Moorage does not know: "
            "it was written by a newer one. Install that, or restore a backup."
        )
    if found != scripts.get_current_head():
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def is_current(connection: Connection) -> bool:
    """Whether the tables are as this Moorage has them."""
    found = MigrationContext.configure(connection).get_current_revision()
    return found == ScriptDirectory.from_config(_config()).get_current_head()


def known_versions() -> set[str]:
    """The versions of the tables that this Moorage can bring to the newest one."""
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config
