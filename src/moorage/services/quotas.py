"""Quotas and statistics: how much a project may have, and how much it has."""

from __future__ import annotations

from moorage.model.caller import Caller, Permission
from moorage.model.errors import Forbidden, Invalid
from moorage.model.page import Page
from moorage.model.quota import UNLIMITED, Amounts, Quota, Resource
from moorage.services import rules
from moorage.services.access import require
from moorage.services.requests import NewQuota
from moorage.store import Store

MOST = 2**53


class QuotaService:
    """Everybody reads what concerns their own project; admins read and set all.

    `defaults` hold for whom nobody has set anything.
    """

    def __init__(self, store: Store, defaults: Amounts) -> None:
        self._store = store
        self._defaults = defaults

    async def list(self, caller: Caller, page: Page, *, all_projects: bool = False) -> list[Quota]:
        """What was set, for the caller's project or (for admins) for all."""
        require(caller, Permission.ADMIN if all_projects else Permission.READER)
        return await self._store.quotas.list(None if all_projects else caller.project_id, page)

    async def get(self, caller: Caller, project_id: str, resource: str) -> Quota:
        """What holds for the project, the default included. Raises Invalid."""
        _require_own(caller, project_id)
        _project(project_id)
        kind = _resource(resource)
        found = await self._store.quotas.get(project_id, kind)
        return found or Quota(project_id, kind, self._defaults.get(kind, UNLIMITED))

    async def create(self, caller: Caller, new: NewQuota) -> Quota:
        """For admins. Raises Invalid; Conflict where there is one."""
        require(caller, Permission.ADMIN)
        return await self._store.quotas.add(_quota(new))

    async def update(self, caller: Caller, new: NewQuota) -> Quota:
        """For admins. Raises Invalid, NotFound."""
        require(caller, Permission.ADMIN)
        return await self._store.quotas.change(_quota(new))

    async def delete(self, caller: Caller, project_id: str, resource: str) -> None:
        """For admins: the default holds again. Raises Invalid, NotFound."""
        require(caller, Permission.ADMIN)
        await self._store.quotas.remove(_project(project_id), _resource(resource))

    async def stats(self, caller: Caller, project_id: str | None) -> Amounts:
        """What a project's clusters take; None: all projects', for admins."""
        if project_id is None:
            require(caller, Permission.ADMIN)
        else:
            _require_own(caller, project_id)
            _project(project_id)
        return await self._store.quotas.used(project_id)


def _require_own(caller: Caller, project_id: str) -> None:
    require(caller, Permission.READER)
    if project_id != caller.project_id and caller.permission < Permission.ADMIN:
        raise Forbidden("That is another project's; for all projects the role admin is needed.")


def _quota(new: NewQuota) -> Quota:
    if not UNLIMITED <= new.hard_limit <= MOST:
        raise Invalid(
            f"hard_limit must be from {UNLIMITED} (no limit) to {MOST}, not {new.hard_limit}.",
            field="hard_limit",
        )
    return Quota(_project(new.project_id), _resource(new.resource), new.hard_limit)


def _project(text: str) -> str:
    project = rules.line(text, "project_id", longest=64)
    if not project.strip():
        raise Invalid("project_id must not be blank.", field="project_id")
    return project


def _resource(text: str) -> Resource:
    try:
        return Resource(text)
    except ValueError:
        raise Invalid(
            f"The resource must be one of {', '.join(Resource)}, not {rules.shown(text)}.",
            field="resource",
        ) from None
