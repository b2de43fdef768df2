"""Claims: one cluster, one worker, in order.

Each row carries `due_at`, a lease and a fencing token. `take` gives a due row to a worker,
counts its token up, and lets it fall due again when the lease ends: so one index says
what is to be done next, however many rows there are. Every later write of the worker
names the token: a worker that slept past its lease, while another took the row, is told so
(LostClaim) and changes nothing. A lease that ran out and was not taken by another still
holds; so the lease bounds how long a dead worker's cluster waits, and nothing else.

`generation` counts what the tenant wished for. A worker that planned for an older wish
may write what it saw, and not its verdict on the way to it.

A cluster whose nodes belong to one place has a home, the place where it was first taken,
and only a worker of that place takes it (`settle`). As long as nothing is made of it, a home
without room for it may leave it to another one (`step_back`).

`take` is one statement. On PostgreSQL its inner select skips rows that others hold
locked (`FOR UPDATE SKIP LOCKED`); SQLite, with its one writer, leaves that clause out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Float, Row, bindparam, case, select

from moorage.model.cluster import Cluster, ClusterStatus
from moorage.model.event import Event
from moorage.model.orphan import Abandoned
from moorage.model.ports import CaKeys
from moorage.store.abandoned import note
from moorage.store.clusters import ca_keys
from moorage.store.engine import Database, Isolation
from moorage.store.events import append
from moorage.store.hints import Hints
from moorage.store.homes import DESERTED_AFTER
from moorage.store.queue import Queue
from moorage.store.rows import cluster_of, group_values, seen_values, verdict_values
from moorage.store.tables import Instant, abandoned, clusters, homes
from moorage.trust.seal import Seal, SealBroken

STEPPED_BACK = 20.0
"""Seconds for which whoever has stepped back from a cluster leaves it to others."""
_OWN_ROW = Isolation.READ_COMMITTED
"""Every write here is guarded by the row that it locks, and by nothing else."""

# The statements stand here, built once: building one costs more than running it.
_HELD = (
    select(
        clusters.c.token,
        clusters.c.lease_until,
        clusters.c.generation,
        clusters.c.status,
        clusters.c.home,
        clusters.c.declined,
    )
    .where(clusters.c.uuid == bindparam("claimed"))
    .with_for_update()
)
_OURS = clusters.update().where(
    clusters.c.uuid == bindparam("claimed"),
    clusters.c.token == bindparam("held"),
    clusters.c.lease_until.is_not(None),
)
"""Updates the claim's row (`_names(claim)`), for as long as the claim holds."""
_HASTEN = (
    clusters.update()
    .where(
        clusters.c.uuid == bindparam("hastened"),
        clusters.c.due_at > bindparam("now"),
        clusters.c.lease_until.is_(None),
    )
    .values(due_at=bindparam("now"))
)
_RENEWED = _OURS.values(
    ca_certificate=clusters.c.coming_certificate,
    ca_key=clusters.c.coming_key,
    coming_certificate=None,
    coming_key=None,
)
"""As _OURS; the CA that the cluster's was changed for becomes its CA."""
_HASTEN_ALL = (
    clusters.update()
    .where(
        clusters.c.due_at > bindparam("now"),
        clusters.c.lease_until.is_(None),
        clusters.c.home.in_(bindparam("homes", expanding=True)),
    )
    .values(due_at=bindparam("now"))
)
_NOW, _UNTIL = bindparam("now", type_=Float), bindparam("until", type_=Float)
_RECALL = (
    clusters.update()
    .where(
        clusters.c.due_at > bindparam("latest"),
        clusters.c.home.in_(bindparam("homes", expanding=True)),
    )
    .values(
        due_at=case((clusters.c.lease_until.is_(None), _NOW), else_=_UNTIL),
        lease_until=case((clusters.c.lease_until.is_not(None), _UNTIL)),
    )
)
_BREAK = clusters.update().values(lease_until=None, lease_worker=None, due_at=_NOW)
_LIVING = select(homes.c.name).where(homes.c.seen_at >= bindparam("since", type_=Instant))
_FORGET_HOMES = [
    table.update().where(table.c.home != "").values(home="") for table in (clusters, abandoned)
]


class LostClaim(Exception):
    """Another worker has the cluster, or it is gone: write nothing, do nothing more."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A cluster that is one worker's until the lease ends. `token` fences late writes off.

    `generation` is that of the wish in `cluster`; it moves with every new wish.
    `keys` is None where the CA's keys don't open with the key file that is there: then
    the cluster can be deleted, and nothing else.
    """

    cluster: Cluster
    keys: CaKeys | None
    token: int
    generation: int


class Claims:
    """`store.claims`. Leases and delays are in seconds."""

    def __init__(self, database: Database, seal: Seal, hints: Hints) -> None:
        self._database = database
        self._seal = seal
        self._hints = hints
        self._left: dict[str, float] = {}
        """Clusters that this process has stepped back from: until when it takes none of them."""
        self.settle({})

    def settle(self, homes: Mapping[str, str]) -> None:
        """Say where this process is: the home that each provider's clusters get here, by provider.

        It takes only clusters that are at home there or nowhere; such a cluster's home is
        where it is first taken. Without this, it takes those without a home, and gives none.
        """
        self._queue, self._choosy = Queue(homes), Queue(homes, choosy=True)

    async def take(self, worker: str, lease: float) -> Claim | None:
        """Claim the row that is due longest; None where none is due and free."""
        now = time.time()
        # Most looks find nothing: a read says so without waking the writer.
        first = await self._first()
        if first is None or first.due_at > now:
            return None
        queue, values = self._choice()
        values |= {"now": now, "until": now + lease, "worker": worker, "at": first.home}
        row = await self._database.write(
            lambda c: c.execute(queue.take, values).first(),
            isolation=_OWN_ROW,
            durable=False,
        )
        if row is None:
            return None
        return Claim(cluster_of(row), self._keys(row), row.token, row.generation)

    def _keys(self, row: Row[Any]) -> CaKeys | None:
        try:
            return ca_keys(row, self._seal)
        except SealBroken:
            return None

    async def renew(self, claim: Claim, lease: float) -> None:
        """Hold it for `lease` seconds from now. Raises LostClaim."""
        until = time.time() + lease
        values = {**_names(claim), "lease_until": until, "due_at": until}

        def work(connection: Connection) -> None:
            if connection.execute(_OURS, values).rowcount == 0:
                raise _lost(claim)

        await self._database.write(work, isolation=_OWN_ROW, durable=False)

    async def apply(
        self, claim: Claim, cluster: Cluster, due_in: float, events: Sequence[Event] = ()
    ) -> bool:
        """Write what was seen, end the claim, and let the row fall due in `due_in` seconds.

        Written are status, status_reason, health, seen_at, healing, api_address, both
        versions, attempts, deadline, rotation, groups and fallback. False where the tenant has
        wished for something else meanwhile: then only what was seen is written, and the
        row is due at once. `events` are written in any case. Raises LostClaim.
        """
        now = time.time()

        def work(connection: Connection) -> bool:
            row = _held(connection, claim)
            current = bool(row.generation == claim.generation)
            values: dict[str, Any] = {
                **_names(claim),
                **seen_values(cluster),
                "lease_until": None,
                "lease_worker": None,
                "due_at": now + due_in if current else now,
            }
            if current:
                values |= verdict_values(cluster) | group_values(cluster)
                if row.declined and not cluster.status.in_progress:
                    values["declined"] = []  # the next time all are asked again
                if row.status != cluster.status.value:
                    values["updated_at"] = Instant.now()
            ended = current and claim.keys is not None and claim.keys.rotation is not None
            renewed = _RENEWED if ended and cluster.rotation is None else _OURS
            connection.execute(renewed, values)
            append(connection, cluster.uuid, cluster.project_id, events)
            return current

        return await self._database.write(
            work,
            lambda current: self._hints.give(due_in if current else 0.0),
            isolation=_OWN_ROW,
            durable=bool(events),  # a turn that has nothing to tell can be taken again
        )

    async def release(self, claim: Claim) -> None:
        """End the claim with nothing written; the row is due at once. A lost one is no error."""
        end = {"lease_until": None, "lease_worker": None, "due_at": time.time()}

        def work(connection: Connection) -> None:
            connection.execute(_OURS, {**_names(claim), **end})

        await self._database.write(work, lambda _: self._hints.give(), isolation=_OWN_ROW)

    async def step_back(self, claim: Claim, reason: str, events: Sequence[Event] = ()) -> bool:
        """End the claim, and leave a cluster of which nothing is made to another home.

        The row has no home then, and is due; `reason` is the status_reason of what is in progress.
        Each home is asked once: False, and nothing is written, where no other one lives that
        has not stepped back from it, or something else is wanted by now. Raises LostClaim.
        """

        def work(connection: Connection) -> bool:
            row = _held(connection, claim)
            if row.generation != claim.generation or row.home in {"", *row.declined}:
                return False
            alive = {"since": Instant.now() - DESERTED_AFTER}
            living = set(connection.execute(_LIVING, alive).scalars())
            if not living - {row.home, *row.declined, *self._queue.homes}:
                return False
            values: dict[str, Any] = {
                **_names(claim),
                "home": "",
                "declined": [*row.declined, row.home],
                "lease_until": None,
                "lease_worker": None,
                "due_at": time.time(),
            }
            if ClusterStatus(row.status).in_progress:
                values["status_reason"] = reason
            connection.execute(_OURS, values)
            append(connection, claim.cluster.uuid, claim.cluster.project_id, events)
            return True

        def leave(stepped: bool) -> None:
            if stepped:
                self._left[claim.cluster.uuid] = time.monotonic() + STEPPED_BACK
                self._hints.give()

        return await self._database.write(work, leave, isolation=_OWN_ROW)

    async def hasten(self, uuid: str) -> bool:
        """Let the cluster's row fall due now. False where it is due already, claimed or gone."""
        values = {"hastened": uuid, "now": time.time()}
        return await self._database.write(
            lambda connection: connection.execute(_HASTEN, values).rowcount > 0,
            lambda moved: self._hints.give() if moved else None,
            isolation=_OWN_ROW,
        )

    async def hasten_all(self) -> int:
        """Let every row at home here that nobody has claimed fall due now.

        Without homes, every row that has none. How many were not due yet.
        """
        values = {"now": time.time(), "homes": self._queue.homes}
        return await self._database.write(
            lambda connection: connection.execute(_HASTEN_ALL, values).rowcount,
            lambda moved: self._hints.give() if moved else None,
            isolation=_OWN_ROW,
        )

    async def recall(self, beyond: float, lease: float) -> int:
        """Let no row at home here or nowhere fall due later than `beyond` seconds from now.

        One that does was written by a clock that has been set back since, or that is wrong.
        It falls due now; one that is claimed, as if it had just been claimed for `lease`, so
        that a worker who lives keeps it. How many there were.
        """
        now = time.time()
        homes = sorted({"", *self._queue.homes})
        values = {"now": now, "latest": now + beyond, "until": now + lease, "homes": homes}
        return await self._database.write(
            lambda connection: connection.execute(_RECALL, values).rowcount,
            lambda moved: self._hints.give() if moved else None,
            isolation=_OWN_ROW,
            durable=False,
        )

    async def note(self, claim: Claim, cluster: Cluster, events: Sequence[Event] = ()) -> None:
        """Write what was seen, before it is acted on; the claim goes on. Raises LostClaim.

        Written are health, api_address, both versions, seen_at and healing.
        """

        def work(connection: Connection) -> None:
            if connection.execute(_OURS, {**_names(claim), **seen_values(cluster)}).rowcount == 0:
                raise _lost(claim)
            append(connection, cluster.uuid, cluster.project_id, events)

        await self._database.write(work, isolation=_OWN_ROW)

    async def remove(self, claim: Claim, events: Sequence[Event] = ()) -> None:
        """Delete the cluster's row for good. Raises LostClaim; ValueError if not deleting."""
        await self._database.write(lambda c: _remove(c, claim, events), isolation=_OWN_ROW)

    async def abandon(self, claim: Claim, left: Abandoned, events: Sequence[Event] = ()) -> None:
        """As `remove`, with a record of what may remain, and of the row's home."""

        def work(connection: Connection) -> None:
            home = _remove(connection, claim, events)
            note(connection, replace(left, home=home))

        await self._database.write(work, isolation=_OWN_ROW)

    async def break_all(self) -> int:
        """End every claim, and forget all homes: for the start of the only process. How many."""

        def work(connection: Connection) -> int:
            for forget in _FORGET_HOMES:
                connection.execute(forget)
            held = _BREAK.where(clusters.c.lease_until.is_not(None))
            return connection.execute(held, {"now": time.time()}).rowcount

        return await self._database.write(work, lambda _: self._hints.give(), isolation=_OWN_ROW)

    async def break_of(self, workers: str) -> int:
        """End the claims of all workers whose names begin so: of processes that are gone."""
        theirs = _BREAK.where(
            clusters.c.lease_until.is_not(None),
            clusters.c.lease_worker.startswith(workers, autoescape=True),
        )
        return await self._database.write(
            lambda connection: connection.execute(theirs, {"now": time.time()}).rowcount,
            lambda _: self._hints.give(),
            isolation=_OWN_ROW,
        )

    async def next_due(self) -> float | None:
        """Seconds until the next row is due and free (0 or more); None without rows."""
        first = await self._first()
        return None if first is None else max(0.0, first.due_at - time.time())

    async def _first(self) -> Row[Any] | None:
        """Which home's row falls due first, and when."""
        queue, values = self._choice()
        rows = await self._database.read(lambda c: c.execute(queue.first, values).all())
        return min((row for row in rows if row.due_at is not None), key=_due_at, default=None)

    def _choice(self) -> tuple[Queue, dict[str, Any]]:
        """Where to look, and what to leave out."""
        if not self._left:
            return self._queue, {}
        now = time.monotonic()
        self._left = {uuid: until for uuid, until in self._left.items() if until > now}
        return (self._choosy, {"left": list(self._left)}) if self._left else (self._queue, {})


def _due_at(row: Row[Any]) -> float:
    return float(row.due_at)


def _names(claim: Claim) -> dict[str, Any]:
    return {"claimed": claim.cluster.uuid, "held": claim.token}


def _held(connection: Connection, claim: Claim) -> Row[Any, Any, Any, Any, Any, Any]:
    row = connection.execute(_HELD, {"claimed": claim.cluster.uuid}).first()
    if row is None or row.token != claim.token or row.lease_until is None:
        raise _lost(claim)
    return row


def _remove(connection: Connection, claim: Claim, events: Sequence[Event]) -> str:
    """The home of the row that is gone now."""
    row = _held(connection, claim)
    if not ClusterStatus(row.status).deleting:
        raise ValueError(f"cluster {claim.cluster.uuid} is {row.status}: not to remove")
    connection.execute(clusters.delete().where(clusters.c.uuid == claim.cluster.uuid))
    append(connection, claim.cluster.uuid, claim.cluster.project_id, events)
    return str(row.home)


def _lost(claim: Claim) -> LostClaim:
    return LostClaim(f"the claim on cluster {claim.cluster.uuid} (token {claim.token}) is lost")
