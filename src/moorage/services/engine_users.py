"""Who a caller is to an engine that goes by names and groups: by certificate or by token."""

from __future__ import annotations

from dataclasses import dataclass

from moorage.model.caller import Caller, Permission
from moorage.model.errors import Forbidden

GROUPS = {
    "kubernetes": {
        Permission.READER: "moorage:readers",
        Permission.MEMBER: "moorage:members",
        Permission.ADMIN: "moorage:members",
    }
}
"""By COE whose engine knows groups: that of a caller's role (drivers/kubernetes/access.py)."""
ENGINES_OWN = "system:"
"""So begin the names that Kubernetes gives to its own programs."""


@dataclass(frozen=True, slots=True)
class EngineUser:
    name: str
    group: str


def engine_user(caller: Caller, coe: str) -> EngineUser:
    """The user's id, and the group of its role in the project. `coe`: one of GROUPS.

    Raises Forbidden without such a role, and for an id that is a name of the engine's own.
    """
    group = GROUPS[coe].get(caller.permission)
    if group is None:
        raise Forbidden(f"This needs the role reader in the project {caller.project_name}.")
    if not caller.user_id or caller.user_id.startswith(ENGINES_OWN):
        raise Forbidden(f"The user's id is a name of {coe}'s own programs.")
    return EngineUser(caller.user_id, group)
