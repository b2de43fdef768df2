"""The audit log, kept: every request that meant to change something."""

from __future__ import annotations

import dataclasses
import datetime

from sqlalchemy import Connection, select

from moorage.model.event import Record
from moorage.model.page import Page
from moorage.store.engine import Database, Isolation
from moorage.store.numbered import numbered_page
from moorage.store.scope import Scope
from moorage.store.tables import Instant, audit

KEPT = datetime.timedelta(days=365)
MOST = 10_000
"""Records of one project that tell of a change, and as many of its refusals: older ones are
forgotten. A tenant may be refused as often as its rate allows, with a text of its own each time:
that must neither fill the disk, nor push out what was done."""
REFUSED = 400
"""The status from which on a record tells of a refusal."""
PRUNED_EVERY = 1000
"""Records. To forget is a search; one in so many writes pays for it, for its own project."""


class Audit:
    """`store.audit`. Records are added, and forgotten after a year, or when a
    project has too many; none is changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: Record) -> None:
        values = {
            field.name: getattr(record, field.name)
            for field in dataclasses.fields(record)
            if field.name != "id"
        }

        def work(connection: Connection) -> None:
            insert = audit.insert().values(values).returning(audit.c.id)
            if connection.execute(insert).scalar_one() % PRUNED_EVERY == 0:
                _prune(connection, record.project_id)

        await self._database.write(work, isolation=Isolation.READ_COMMITTED)

    async def list(self, scope: Scope, page: Page) -> list[Record]:
        """The oldest first, unless the page says otherwise. The marker is a record's id."""
        query = select(audit)
        if scope.project_id is not None:
            query = query.where(audit.c.project_id == scope.project_id)

        def work(connection: Connection) -> list[Record]:
            return [Record(**row._mapping) for row in numbered_page(connection, query, audit, page)]

        return await self._database.read(work)


def _prune(connection: Connection, project_id: str) -> None:
    connection.execute(audit.delete().where(audit.c.at < Instant.now() - KEPT))
    ours = audit.c.project_id == project_id
    for kind in (ours & (audit.c.status < REFUSED), ours & (audit.c.status >= REFUSED)):
        newest = select(audit.c.id).where(kind).order_by(audit.c.id.desc()).offset(MOST).limit(1)
        oldest = connection.scalar(newest)
        if oldest is not None:
            connection.execute(audit.delete().where(kind, audit.c.id <= oldest))
