"""Events, the audit log and heartbeats on the wire."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from typing_extensions import TypedDict

from moorage.api.schemas.common import stamp
from moorage.model.event import Event, Record, Service


class EventBody(TypedDict):
    """One line of a cluster's story. `kind`: request, turn or step; `seconds`: how long.

    A request's `request_id` is that of its line in the audit log.
    """

    id: int
    kind: str
    what: str
    at: str
    turn: str | None
    seconds: float | None
    cause: str | None
    ok: bool
    request_id: str | None


class EventList(TypedDict):
    events: list[EventBody]
    next: str | None


class RecordBody(TypedDict):
    """One request that meant to change something. `status` is HTTP's.

    `target`: the uuid of what it touched; of a node group its cluster's before it and a slash.
    """

    id: int
    at: str
    request_id: str
    user_id: str
    user_name: str
    project_id: str
    method: str
    path: str
    address: str
    status: int
    reason: str | None
    target: str | None


class RecordList(TypedDict):
    records: list[RecordBody]
    next: str | None


class ServiceBody(TypedDict):
    """A process of Moorage's. `state`: up or down, by its heartbeats."""

    id: int
    host: str
    binary: str
    state: str
    disabled: bool
    disabled_reason: str | None
    report_count: int
    created_at: str | None
    updated_at: str | None


class ServiceList(TypedDict):
    mservices: list[ServiceBody]
    next: str | None


def event_list(events: Iterable[Event], following: str | None) -> EventList:
    shaped: list[EventBody] = [
        {
            "id": event.id,
            "kind": event.kind.value,
            "what": event.what,
            "at": exact(event.at),
            "turn": event.turn,
            "seconds": event.seconds,
            "cause": event.cause,
            "ok": event.ok,
            "request_id": event.request_id,
        }
        for event in events
    ]
    return {"events": shaped, "next": following}


def record_list(records: Iterable[Record], following: str | None) -> RecordList:
    shaped: list[RecordBody] = [
        {
            "id": record.id,
            "at": exact(record.at),
            "request_id": record.request_id,
            "user_id": record.user_id,
            "user_name": record.user_name,
            "project_id": record.project_id,
            "method": record.method,
            "path": record.path,
            "address": record.address,
            "status": record.status,
            "reason": record.reason,
            "target": record.target,
        }
        for record in records
    ]
    return {"records": shaped, "next": following}


def service_list(services: Iterable[Service], following: str | None) -> ServiceList:
    shaped: list[ServiceBody] = [
        {
            "id": service.id,
            "host": service.host,
            "binary": service.binary,
            "state": service.state,
            "disabled": False,
            "disabled_reason": None,
            "report_count": service.report_count,
            "created_at": stamp(service.created_at),
            "updated_at": stamp(service.last_seen_at),
        }
        for service in services
    ]
    return {"mservices": shaped, "next": following}


def exact(time: datetime.datetime) -> str:
    """As RFC 3339, to the millisecond: steps follow each other closely."""
    return time.isoformat(timespec="milliseconds")
