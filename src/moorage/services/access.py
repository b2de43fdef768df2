"""Who may do what.

A project sees its own objects and nothing of another's: those are not found, never
forbidden, so that nobody learns that they exist. An admin reaches everything by uuid;
a name means an object of the admin's own project, for names repeat between projects.
"""

from __future__ import annotations

import uuid

from moorage.model.caller import Caller, Permission
from moorage.model.errors import Forbidden
from moorage.store import EVERYTHING, Scope


def require(caller: Caller, permission: Permission) -> None:
    """Raises Forbidden where the caller's role in its project does not reach that far."""
    if not caller.project_id:
        raise Forbidden("The token is not scoped to a project.")
    if caller.permission < permission:
        raise Forbidden(
            f"This needs the role {permission.name.lower()}, which {caller.user_name} "
            f"does not have in the project {caller.project_name}."
        )


def reach(caller: Caller, ident: str) -> Scope:
    """Where the caller may look for the object that it calls `ident`."""
    if caller.permission >= Permission.ADMIN and looks_like_uuid(ident):
        return EVERYTHING
    return Scope(caller.project_id)


def listing(caller: Caller, *, all_projects: bool) -> Scope:
    """What the caller's lists hold. Raises Forbidden for `all_projects` without admin."""
    if not all_projects:
        return Scope(caller.project_id)
    require(caller, Permission.ADMIN)
    return EVERYTHING


def looks_like_uuid(text: str) -> bool:
    """In the one spelling that our uuids have."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
