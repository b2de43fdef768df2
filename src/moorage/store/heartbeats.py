"""The processes of Moorage, by their signs of life."""

from __future__ import annotations

import dataclasses
import datetime

from sqlalchemy import Connection, select

from moorage.model.event import Service
from moorage.store.engine import Database, Isolation
from moorage.store.tables import Instant, heartbeats

DOWN_AFTER = datetime.timedelta(seconds=60)
FORGOTTEN_AFTER = datetime.timedelta(days=1)


class Heartbeats:
    """`store.heartbeats`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def beat(self, host: str, binary: str) -> None:
        """The process `binary` on `host` is alive now."""
        ours = (heartbeats.c.host == host, heartbeats.c.binary == binary)

        def work(connection: Connection) -> None:
            now = Instant.now()
            update = heartbeats.update().where(*ours)
            count = heartbeats.c.report_count + 1
            if connection.execute(update.values(report_count=count, last_seen_at=now)).rowcount:
                return
            connection.execute(
                heartbeats.delete().where(heartbeats.c.last_seen_at < now - FORGOTTEN_AFTER)
            )
            connection.execute(
                heartbeats.insert().values(
                    host=host, binary=binary, report_count=1, created_at=now, last_seen_at=now
                )
            )

        await self._database.write(work, isolation=Isolation.READ_COMMITTED, durable=False)

    async def list(self) -> list[Service]:
        """By id. Whoever was silent for a minute is down."""
        rows = await self._database.read(
            lambda c: c.execute(select(heartbeats).order_by(heartbeats.c.id)).all()
        )
        late = Instant.now() - DOWN_AFTER
        found = [Service(**row._mapping) for row in rows]
        return [
            service if service.last_seen_at >= late else dataclasses.replace(service, state="down")
            for service in found
        ]
