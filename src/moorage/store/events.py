"""What happened to each cluster, kept for a while, also after the cluster is gone."""

from __future__ import annotations

import builtins
import datetime
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, select

from moorage.model.cluster import Cluster
from moorage.model.errors import NotFound
from moorage.model.event import Event, EventKind
from moorage.model.page import Page
from moorage.store.engine import Database, Isolation
from moorage.store.numbered import numbered_page
from moorage.store.scope import Scope
from moorage.store.tables import Instant, clusters, events

MOST = 2000
"""Wishes for one cluster, as many steps of it, and turns: older ones are forgotten, but for its
first wish, so that a story has its beginning."""
PRUNED_EVERY = 100
"""Rows. To forget is a search; one in so many writes pays for it."""
KEPT = datetime.timedelta(days=30)
"""How long the story of a cluster that is gone is kept; that of one that is there has no end."""

_INSERT = events.insert()
_NEWEST = (
    select(events.c.id)
    .where(events.c.cluster_uuid == bindparam("cluster"), events.c.kind == bindparam("of"))
    .order_by(events.c.id.desc())
    .limit(1)
    .offset(MOST)
)
_FIRST_WISH = select(func.min(events.c.id)).where(
    events.c.cluster_uuid == bindparam("cluster"), events.c.kind == EventKind.REQUEST.value
)
_CUT = events.delete().where(
    events.c.cluster_uuid == bindparam("cluster"),
    events.c.kind == bindparam("of"),
    events.c.id <= bindparam("oldest"),
    events.c.id != bindparam("first"),
)
_FORGET = events.delete().where(
    events.c.at < bindparam("before"), events.c.cluster_uuid.not_in(select(clusters.c.uuid))
)


class Events:
    """`store.events`. Those who write the clusters write them (`append`), and `tell`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tell(
        self, cluster: Cluster, what: str, *, by: str, request_id: str | None = None
    ) -> None:
        """Write down what was asked of a cluster where nothing of its row changes by it."""
        told = said(what, by, request_id)

        def work(connection: Connection) -> None:
            append(connection, cluster.uuid, cluster.project_id, [told])

        await self._database.write(work, isolation=Isolation.READ_COMMITTED)

    async def list(self, cluster_uuid: str, scope: Scope, page: Page) -> list[Event]:
        """The oldest first, unless the page says otherwise. The marker is an event's id.

        Raises Invalid.
        """
        query = _of(cluster_uuid, scope)
        rows = await self._database.read(lambda c: numbered_page(c, query, events, page))
        return [_event(row) for row in rows]

    async def list_of_gone(
        self, cluster_uuid: str, scope: Scope, page: Page
    ) -> builtins.list[Event]:
        """As `list`; raises NotFound where nothing is known any more of such a cluster."""
        query = _of(cluster_uuid, scope).limit(1)
        if await self._database.read(lambda c: c.execute(query).first()) is None:
            raise NotFound(f"Cluster {cluster_uuid} could not be found.")
        return await self.list(cluster_uuid, scope, page)


def _of(cluster_uuid: str, scope: Scope) -> Select[Any]:
    query = select(events).where(events.c.cluster_uuid == cluster_uuid)
    if scope.project_id is None:
        return query
    return query.where(events.c.project_id == scope.project_id)


def append(
    connection: Connection, cluster_uuid: str, project_id: str, new: Iterable[Event]
) -> None:
    """Write events down, in the transaction that makes them true."""
    rows = [
        {
            "cluster_uuid": cluster_uuid,
            "project_id": project_id,
            "kind": event.kind.value,
            "what": event.what,
            "at": event.at,
            "turn": event.turn,
            "seconds": event.seconds,
            "cause": event.cause,
            "ok": event.ok,
            "request_id": event.request_id,
        }
        for event in new
    ]
    if not rows:
        return
    last = connection.execute(_INSERT.values(rows[0]).returning(events.c.id)).scalar_one()
    if rows[1:]:
        connection.execute(_INSERT, rows[1:])
    if last % PRUNED_EVERY < len(rows):
        _prune(connection, cluster_uuid)


def said(what: str, by: str, request_id: str | None = None) -> Event:
    """The event of a wish: what is wanted now, and who said so."""
    return Event(
        EventKind.REQUEST, what, Instant.now(), cause=f"asked by {by}", request_id=request_id
    )


def _prune(connection: Connection, cluster_uuid: str) -> None:
    first = connection.scalar(_FIRST_WISH, {"cluster": cluster_uuid}) or 0
    for kind in EventKind:
        of = {"cluster": cluster_uuid, "of": kind.value}
        oldest = connection.scalar(_NEWEST, of)
        if oldest is not None:
            connection.execute(_CUT, {**of, "oldest": oldest, "first": first})
    connection.execute(_FORGET, {"before": Instant.now() - KEPT})


def _event(row: Row[Any]) -> Event:
    return Event(
        id=row.id,
        kind=EventKind(row.kind),
        what=row.what,
        at=row.at,
        turn=row.turn,
        seconds=row.seconds,
        cause=row.cause,
        ok=row.ok,
        request_id=row.request_id,
    )
