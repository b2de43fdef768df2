"""The places where conductors live, and what becomes of clusters whose place is deserted.

A home is a machine and an install on it, `machine/install`. Its conductor says every few
seconds that it lives (`beat`); a home that was silent for DESERTED_AFTER has none. Its
clusters can't be conducted elsewhere, since their nodes are there. So the others say so on
its behalf: `speak_for_deserted` writes it into the clusters that are overdue there. What it
writes, the next turn at home overwrites. And since nobody there can try to delete a cluster,
`end_forced` gives those up that an admin had deleted by force.
"""

from __future__ import annotations

import builtins
import datetime
from dataclasses import dataclass

from sqlalchemy import Connection, Text, Update, and_, case, cast, exists, literal, or_, select

from moorage.model.cluster import ClusterStatus, HealthStatus
from moorage.model.event import Event, EventKind
from moorage.model.orphan import Abandoned, wanted_nodes
from moorage.store.abandoned import note
from moorage.store.engine import Database, Isolation
from moorage.store.events import append
from moorage.store.rows import cluster_of
from moorage.store.tables import EPOCH, Instant, clusters, homes

DESERTED_AFTER = datetime.timedelta(seconds=60)
FORGOTTEN_AFTER = datetime.timedelta(days=1)
"""A deserted home without clusters."""
_MARK = "has had no conductor since"
_DELETING = [status.value for status in ClusterStatus if status.deleting]
_TURNED = {status.value: f"{status.verb}_FAILED" for status in ClusterStatus if status.in_progress}


@dataclass(frozen=True, slots=True)
class Home:
    """`name` is `machine/install`; `seen_at` is its conductor's last sign of life."""

    name: str
    seen_at: datetime.datetime

    @property
    def machine(self) -> str:
        return self.name.partition("/")[0]

    @property
    def deserted(self) -> bool:
        return self.seen_at < Instant.now() - DESERTED_AFTER

    def __str__(self) -> str:
        return f"its machine {self.machine} {_MARK} {self.seen_at:%Y-%m-%d %H:%M:%S} UTC"


class Homes:
    """`store.homes`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def beat(self, name: str) -> None:
        """The conductor at this home lives."""

        def work(connection: Connection) -> None:
            now = Instant.now()
            seen = homes.update().where(homes.c.name == name).values(seen_at=now)
            if connection.execute(seen).rowcount:
                return
            connection.execute(homes.insert().values(name=name, seen_at=now))
            left = homes.c.seen_at < now - FORGOTTEN_AFTER
            kept = exists().where(clusters.c.home == homes.c.name)
            connection.execute(homes.delete().where(left, ~kept))

        # One process beats for a home: nobody else inserts its row.
        await self._database.write(work, isolation=Isolation.READ_COMMITTED)

    async def list(self) -> list[Home]:
        """By name."""
        query = select(homes.c.name, homes.c.seen_at).order_by(homes.c.name)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [Home(row.name, row.seen_at) for row in rows]

    async def of(self, uuid: str) -> Home | None:
        """The home of a cluster; None where it has none, or is gone.

        A home of which nothing is known was deserted before anybody counted.
        """
        query = (
            select(clusters.c.home, homes.c.seen_at)
            .outerjoin(homes, homes.c.name == clusters.c.home)
            .where(clusters.c.uuid == uuid, clusters.c.home != "")
        )
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else Home(row.home, row.seen_at or EPOCH)

    async def speak_for_deserted(self) -> int:
        """Let the overdue clusters of deserted homes say why nothing happens. How many did.

        Their health is unknown; what is in progress has it as its reason, and has failed
        once its deadline is over. A cluster that says so already is left alone.
        """
        found = 0
        for home in await self.list():
            if home.deserted:
                statement = _said_of(home)
                found += await self._database.write(
                    lambda connection, said=statement: connection.execute(said).rowcount,  # type: ignore[misc]
                    isolation=Isolation.READ_COMMITTED,
                )
        return found

    async def end_forced(self) -> builtins.list[Abandoned]:
        """Let the rows of deserted homes go that an admin had deleted by force, with a record.

        Only rows that are due: what is claimed is left to whoever holds it.
        """
        return await self._database.write(_end_forced, isolation=Isolation.READ_COMMITTED)


def _end_forced(connection: Connection) -> list[Abandoned]:
    now = Instant.now()
    query = (
        select(clusters, homes.c.seen_at.label("home_seen_at"))
        .join(homes, homes.c.name == clusters.c.home)
        .where(
            homes.c.seen_at < now - DESERTED_AFTER,
            clusters.c.due_at <= now.timestamp(),
            clusters.c.forced_by.is_not(None),
            clusters.c.status.in_(_DELETING),
        )
        .with_for_update(of=clusters, skip_locked=True)
    )
    ended = []
    for row in connection.execute(query).all():
        cluster, reason = cluster_of(row), str(Home(row.home, row.home_seen_at))
        left = Abandoned.of(cluster, wanted_nodes(cluster), reason, now, home=row.home)
        connection.execute(clusters.delete().where(clusters.c.uuid == cluster.uuid))
        note(connection, left)
        event = Event(EventKind.TURN, left.sentence, now, ok=False)
        append(connection, cluster.uuid, cluster.project_id, [event])
        ended.append(left)
    return ended


def _said_of(home: Home) -> Update:
    """What the clusters at a deserted home are told, where they don't say it yet."""
    now, said, status = Instant.now(), str(home), clusters.c.status
    in_progress = status.in_(_TURNED)
    late = and_(in_progress, clusters.c.deadline <= now)
    unsaid = or_(
        clusters.c.status_reason.is_(None), clusters.c.status_reason.not_like(f"%{_MARK}%")
    )
    unknown = {"cluster": said}
    return (
        clusters.update()
        .where(
            clusters.c.home == home.name,
            clusters.c.due_at <= now.timestamp(),
            or_(
                cast(clusters.c.health_reasons, Text).not_like(f"%{_MARK}%"),
                and_(in_progress, unsaid),
                late,
            ),
        )
        .values(
            health_status=HealthStatus.UNKNOWN.value,
            health_reasons=unknown,
            status_reason=case((in_progress, said), else_=clusters.c.status_reason),
            status=case((late, case(_TURNED, value=status, else_=status)), else_=status),
            updated_at=literal(now, Instant),
        )
    )
