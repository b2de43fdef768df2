"""What is there, by the store: asked once for each page of metrics, and kept a little."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from time import monotonic

import structlog
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from moorage.metrics.registry import REGISTRY
from moorage.model.census import Census
from moorage.model.errors import MoorageError

SECONDS = 5.0
"""So long a count is waited for, and so long it is good for: however often pages are asked."""
log = structlog.get_logger(__name__)


class _Counts(Collector):
    """The newest census as gauges. Without one there are none, but for the word that says so."""

    def __init__(self) -> None:
        self.census: Census | None = None

    def collect(self) -> Iterator[Metric]:
        census = self.census
        yield _gauge(
            "moorage_store_up",
            "Whether the database answered when this page was made. Without it, the gauges of "
            "clusters, nodes and the queue are missing.",
            0 if census is None else 1,
        )
        if census is None:
            return
        clusters = GaugeMetricFamily(
            "moorage_clusters",
            "Clusters by status, COE and health, in the whole cloud: every process tells the "
            "same, so take the max over instances, never the sum.",
            labels=["status", "coe", "health"],
        )
        nodes = GaugeMetricFamily(
            "moorage_nodes",
            "Nodes that are wanted, by COE, in the whole cloud.",
            labels=["coe"],
        )
        wanted: dict[str, int] = {}
        for group in census.groups:
            clusters.add_metric([group.status, group.coe, group.health], group.clusters)
            wanted[group.coe] = wanted.get(group.coe, 0) + group.nodes
        for coe, count in wanted.items():
            nodes.add_metric([coe], count)
        yield clusters
        yield nodes
        yield _gauge(
            "moorage_queue_clusters",
            "Clusters whose turn is due and that no conductor has taken yet.",
            census.due,
        )
        yield _gauge(
            "moorage_queue_oldest_seconds",
            "For how long the one that waits longest is due. Above some seconds, conductors "
            "are too few, too slow, or gone.",
            census.oldest_due_seconds,
        )

    def describe(self) -> Iterator[Metric]:
        return self.collect()


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


class Page:
    """All metrics of this process, as Prometheus reads them. `count` asks the store."""

    def __init__(
        self, count: Callable[[], Awaitable[Census]], registry: CollectorRegistry = REGISTRY
    ) -> None:
        self._count = count
        self._counts = _Counts()
        self._counted = float("-inf")
        self._lock = asyncio.Lock()
        self._registry = CollectorRegistry()
        self._registry.register(_Joined(registry))
        self._registry.register(self._counts)

    async def render(self, accept: str) -> tuple[str, bytes]:
        """Content-Type and text, for that Accept header. Always a page, within `SECONDS`."""
        await self._recount()
        encode, kind = choose_encoder(accept)
        # Some milliseconds of work: beside the event loop, not on it.
        return kind, await asyncio.to_thread(encode, self._registry)

    async def _recount(self) -> None:
        async with self._lock:
            if monotonic() < self._counted + SECONDS:
                return
            try:
                async with asyncio.timeout(SECONDS):
                    self._counts.census = await self._count()
            except (MoorageError, TimeoutError):
                self._counts.census = None
            except Exception:
                log.exception("no count for the metrics")
                self._counts.census = None
            self._counted = monotonic()


class _Joined(Collector):
    """One registry within another, so that a page can have its own beside the process's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        return iter(self._registry.collect())

    def describe(self) -> Iterator[Metric]:
        return iter(())
