"""What the API was asked, and what was turned away before it was asked.

Counting stands in the way of every request, and takes a hundredth of a small one: the meter
of a method, route and status is looked up once.
"""

from __future__ import annotations

import enum
import functools

from prometheus_client import Counter, Gauge, Histogram

from moorage.metrics.registry import OTHER, REGISTRY

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
NO_ROUTE = "none"
"""The route of a request that was refused before one was found, or that names none."""

_REQUESTS = Counter(
    "moorage_api_requests",
    "Requests answered, by method, route template and HTTP status. 5xx are ours to mend, "
    "except 503, which names what is away; 4xx are the callers'. Route `none`: refused before "
    "a route was found (no token, no such path).",
    ["method", "route", "status"],
    registry=REGISTRY,
)
_SECONDS = Histogram(
    "moorage_api_request_duration_seconds",
    "From a request's headers to its answer, its body's arrival included.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
_TURNED_AWAY = Counter(
    "moorage_api_turned_away",
    "Connections and requests that a limit ended. rate: a project asks for too many changes "
    "(429). connections, address: too many open ones, in all or from one address. slow: a "
    "request or the reading of an answer took too long. size: a URL, headers or a body beyond "
    "their limits.",
    ["limit"],
    registry=REGISTRY,
)
CONNECTIONS = Gauge(
    "moorage_api_connections",
    "Connections that are open now: to the API, and to the listener of this page.",
    registry=REGISTRY,
)


class Limit(enum.StrEnum):
    """Why something was turned away."""

    RATE = "rate"
    CONNECTIONS = "connections"
    ADDRESS = "address"
    SLOW = "slow"
    SIZE = "size"


_TURNED_AWAY_BY = {limit: _TURNED_AWAY.labels(limit.value) for limit in Limit}


def answered(method: str, route: str, status: int, seconds: float) -> None:
    """A request was answered. `route` is a template of ours, or NO_ROUTE."""
    count, timed = _meters(method if method in METHODS else OTHER, route, status)
    count.inc()
    timed.observe(seconds)


@functools.cache
def _meters(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return _REQUESTS.labels(method, route, str(status)), _SECONDS.labels(method, route)


def turned_away(limit: Limit) -> None:
    _TURNED_AWAY_BY[limit].inc()
