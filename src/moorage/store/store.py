"""The store as the other rooms hold it."""

from __future__ import annotations

from sqlalchemy import select

from moorage.model.errors import Refused
from moorage.store.abandoned import Abandonments
from moorage.store.audit import Audit
from moorage.store.census import Counting
from moorage.store.claims import Claims
from moorage.store.clusters import Clusters
from moorage.store.engine import Database
from moorage.store.events import Events
from moorage.store.heartbeats import Heartbeats
from moorage.store.hints import Hints
from moorage.store.homes import Homes
from moorage.store.offers import Offers
from moorage.store.open import open_database
from moorage.store.quotas import Quotas
from moorage.store.tables import clusters
from moorage.store.templates import Templates
from moorage.trust.seal import Seal, SealBroken


class Store:
    """One open database. For any number of tasks of the event loop that opened it."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self.hints = Hints()
        self.templates = Templates(database)
        self.clusters = Clusters(database, seal, self.hints)
        self.claims = Claims(database, seal, self.hints)
        self.quotas = Quotas(database)
        self.events = Events(database)
        self.audit = Audit(database)
        self.heartbeats = Heartbeats(database)
        self.homes = Homes(database)
        self.offers = Offers(database)
        self.abandoned = Abandonments(database)
        self.census = Counting(database)

    @classmethod
    async def open(cls, url: str, seal: Seal, *, key_lost: bool = False) -> Store:
        """Connect, and bring the tables to the newest version.

        `url` is SQLAlchemy's, e.g. `sqlite:////var/lib/moorage/moorage.db`.
        Raises Refused where the database is of a newer Moorage, or was sealed with
        another key (`key_lost`: it is known to be lost, and its clusters can only be
        deleted); RetryLater where another process holds it locked.
        """
        database = await open_database(url)
        try:
            if not key_lost:
                await _try_seal(database, seal)
            store = cls(database, seal)
            await database.carry(store.hints)
        except BaseException:
            await database.close()
            raise
        return store

    async def close(self) -> None:
        await self._database.close()


async def _try_seal(database: Database, seal: Seal) -> None:
    """Find a wrong key file now, and not when a tenant needs a certificate."""
    query = select(clusters.c.uuid, clusters.c.ca_key).order_by(clusters.c.id.desc()).limit(1)
    row = await database.read(lambda connection: connection.execute(query).first())
    if row is None:
        return
    try:
        seal.open(row.ca_key, row.uuid)
    except SealBroken as error:
        raise Refused(
            "The key file does not open the keys in the database: they were sealed with "
            "another one. Put that key file back, or add its line to this one. If it is lost for "
            "good, `moorage up --key-lost` starts all the same: clusters that it sealed run on, "
            "can't be changed, and can be deleted."
        ) from error
