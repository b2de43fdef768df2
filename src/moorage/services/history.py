"""What happened: each cluster's events, the audit log, and who is at work."""

from __future__ import annotations

import builtins

from structlog.contextvars import bind_contextvars

from moorage.model.caller import Caller, Permission
from moorage.model.errors import NotFound
from moorage.model.event import Event, Record, Service
from moorage.model.page import Page
from moorage.services.access import listing, looks_like_uuid, reach, require
from moorage.store import Store


class EventService:
    """The story of a cluster, from the first request to now."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def list(self, caller: Caller, ident: str, page: Page) -> builtins.list[Event]:
        """Of a cluster by uuid or name; of one that is gone, by its uuid, for some weeks."""
        require(caller, Permission.READER)
        scope = reach(caller, ident)
        try:
            uuid = (await self._store.clusters.get(ident, scope)).uuid
            bind_contextvars(cluster=uuid)
        except NotFound:
            if not looks_like_uuid(ident):
                raise
            return await self._store.events.list_of_gone(ident, scope, page)
        return await self._store.events.list(uuid, scope, page)


class AuditService:
    """Every request that meant to change something: a project reads its own, admins all."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def record(self, record: Record) -> None:
        await self._store.audit.add(record)

    async def list(
        self, caller: Caller, page: Page, *, all_projects: bool = False
    ) -> builtins.list[Record]:
        require(caller, Permission.READER)
        return await self._store.audit.list(listing(caller, all_projects=all_projects), page)


class Heartbeats:
    """The processes that conduct clusters, for admins."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def list(self, caller: Caller) -> builtins.list[Service]:
        require(caller, Permission.ADMIN)
        return await self._store.heartbeats.list()
