"""What an operator's command reads of the store, beside a server that may be up.

Nothing changes: tables of another version stay as they are, for the process that serves
them may be of that version.
"""

from __future__ import annotations

from sqlalchemy import Connection

from moorage.model.cluster import Cluster
from moorage.model.errors import Refused
from moorage.store.clusters import SHOWN
from moorage.store.migrate import is_current
from moorage.store.open import open_database
from moorage.store.rows import cluster_of


async def all_clusters(url: str) -> list[Cluster]:
    """Every cluster that has its row.

    Raises Refused where the tables are of another version, RetryLater where the database
    can't be reached.
    """

    def work(connection: Connection) -> list[Cluster]:
        if not is_current(connection):
            raise Refused(
                "The database is not of this version of Moorage: `moorage up` brings it there, "
                "or use the version that runs."
            )
        return [cluster_of(row) for row in connection.execute(SHOWN)]

    database = await open_database(url, migrating=False)
    try:
        return await database.read(work)
    finally:
        await database.close()
