"""Which row is next, for a process that is at home somewhere, and how it is taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, case, func, literal, select, union_all

from moorage.store.tables import clusters


class Queue:
    """The statements by which rows of certain homes are found and taken.

    Each home is looked at by itself, so that its first row is the first of the index.
    `choosy`: the clusters of the parameter `left` (uuids, one at least) are left out.
    """

    def __init__(self, homes: Mapping[str, str], *, choosy: bool = False) -> None:
        self.homes = sorted(set(homes.values())) or [""]
        wanted = []
        if choosy:
            wanted = [clusters.c.uuid.not_in(bindparam("left", expanding=True))]
        first = (
            select(literal(home).label("home"), func.min(clusters.c.due_at).label("due_at")).where(
                clusters.c.home == home, *wanted
            )
            for home in sorted({"", *homes.values()})
        )
        self.first = union_all(*first)
        """A row for each home: when its first row falls due."""
        due = (
            select(clusters.c.id)
            .where(
                clusters.c.home == bindparam("at"),
                clusters.c.due_at <= bindparam("now"),
                *wanted,
            )
            .order_by(clusters.c.due_at)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        taken: dict[str, Any] = {
            "token": clusters.c.token + 1,
            "due_at": bindparam("until"),
            "lease_until": bindparam("until"),
            "lease_worker": bindparam("worker"),
        }
        if homes:
            moves_in = ((clusters.c.provider == provider, home) for provider, home in homes.items())
            taken["home"] = case(*moves_in, else_=clusters.c.home)
        self.take = (
            clusters.update()
            .where(clusters.c.id == due.scalar_subquery())
            .values(taken)
            .returning(clusters)
        )
