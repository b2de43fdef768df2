"""What happened to a cluster, and what was asked of the cloud: kept to be read later."""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass


class EventKind(enum.StrEnum):
    REQUEST = "request"
    """What somebody wished for."""
    TURN = "turn"
    """One turn of the conductor, in one sentence."""
    STEP = "step"
    """One step of a turn's plan."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a cluster's story. `seconds` is how long it took, where it took time.

    `turn` ties the steps to their turn; `cause` is why a step failed, or who wished for it;
    `request_id` ties a wish to its line in the audit log.
    """

    kind: EventKind
    what: str
    at: datetime.datetime
    turn: str | None = None
    seconds: float | None = None
    cause: str | None = None
    ok: bool = True
    request_id: str | None = None
    id: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the audit log: a request that meant to change something.

    `status` is that of HTTP; `reason` is why it was refused. `target` is what it touched: a
    uuid; of a node group its cluster's and its own, `<uuid>/<uuid>`; of what has no uuid, such
    as a quota, the names that it goes by, `<project>/<resource>`. None: nothing is known of it.
    """

    at: datetime.datetime
    request_id: str
    user_id: str
    user_name: str
    project_id: str
    method: str
    path: str
    address: str
    status: int
    reason: str | None = None
    target: str | None = None
    id: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """One process of Moorage, by its heartbeats. `state` is `up` or `down`."""

    id: int
    host: str
    binary: str
    report_count: int
    created_at: datetime.datetime
    last_seen_at: datetime.datetime
    state: str = "up"
