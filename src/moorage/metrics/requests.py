"""What the API was asked, and what was turned away before it was asked.

Counting stands in the way of every request, and takes less than a hundredth of a small one.
"""

from __future__ import annotations

import enum
import itertools
from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client import Counter, Gauge, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from moorage.metrics.registry import OTHER, REGISTRY

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
NO_ROUTE = "none"
"""The route of a request that was refused before one was found, or that names none."""

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds."""


class _Answers:
    """Those of one method, route and status."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKETS) + 1)
        """How many took longer than the bound before, and not longer than this one."""
        self.seconds = 0.0


_answers: dict[tuple[str, str, int], _Answers] = {}


class _Requests(Collector):
    """Counted in plain integers, on the one thread that answers.

    prometheus_client's own Counter and Histogram take a lock for each of three numbers:
    1.5 µs a request, where this takes 0.4.
    """

    def collect(self) -> Iterator[Metric]:
        counts = CounterMetricFamily(
            "moorage_api_requests",
            "Requests answered, by method, route template and HTTP status. 5xx are ours to mend, "
            "except 503, which names what is away; 4xx are the callers'. Route `none`: refused "
            "before a route was found (no token, no such path).",
            labels=["method", "route", "status"],
        )
        times = HistogramMetricFamily(
            "moorage_api_request_duration_seconds",
            "From a request's headers to its answer, its body's arrival included.",
            labels=["method", "route"],
        )
        routes: dict[tuple[str, str], tuple[list[int], float]] = {}
        for (method, route, status), answers in list(_answers.items()):
            buckets = list(answers.buckets)
            counts.add_metric([method, route, str(status)], sum(buckets))
            others, seconds = routes.get((method, route), ([0] * len(buckets), 0.0))
            both = [one + other for one, other in zip(buckets, others, strict=True)]
            routes[method, route] = both, seconds + answers.seconds
        bounds = [*(str(bound) for bound in BUCKETS), "+Inf"]
        for labels, (buckets, seconds) in routes.items():
            upto = list(zip(bounds, itertools.accumulate(buckets), strict=True))
            times.add_metric(labels, buckets=upto, sum_value=seconds)
        yield counts
        yield times


REGISTRY.register(_Requests())
_TURNED_AWAY = Counter(
    "moorage_api_turned_away",
    "Connections and requests that a limit ended. rate: a project asks for too many changes "
    "(429). connections, address: too many open ones, in all or from one address. slow: a "
    "request or the reading of an answer took too long. size: a URL, headers or a body beyond "
    "their limits. unread: too much was answered that nobody reads.",
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
    UNREAD = "unread"


_TURNED_AWAY_BY = {limit: _TURNED_AWAY.labels(limit.value) for limit in Limit}


def answered(method: str, route: str, status: int, seconds: float) -> None:
    """A request was answered. `route` is a template of ours, or NO_ROUTE."""
    if method not in METHODS:
        method = OTHER
    key = (method, route, status)
    answers = _answers.get(key)
    if answers is None:
        answers = _answers[key] = _Answers()
    answers.seconds += seconds
    answers.buckets[bisect_left(BUCKETS, seconds)] += 1


def turned_away(limit: Limit) -> None:
    _TURNED_AWAY_BY[limit].inc()
