"""Who asks: a user acting in a project, with roles."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Permission(enum.IntEnum):
    """The three roles that mean something here; each may do what the lower ones may."""

    NONE = 0
    READER = 1
    MEMBER = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Caller:
    """A validated token's bearer. `roles` are Keystone's names, implied ones included.

    `expires_at` is in seconds since the epoch. `request_id` is that of the request in which
    it asks to change something: what comes of it is told under this id.
    """

    user_id: str
    user_name: str
    project_id: str
    project_name: str
    roles: frozenset[str]
    expires_at: float
    request_id: str | None = None

    @property
    def permission(self) -> Permission:
        for name, permission in (
            ("admin", Permission.ADMIN),
            ("member", Permission.MEMBER),
            ("reader", Permission.READER),
        ):
            if name in self.roles:
                return permission
        return Permission.NONE

    @property
    def may_publish(self) -> bool:
        """Whether it may make cluster templates public or hidden."""
        return "publisher" in self.roles or self.permission >= Permission.ADMIN
