"""The one registry of this process, and what Prometheus expects of every process."""

from __future__ import annotations

import importlib.metadata
import platform

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Info,
    ProcessCollector,
)

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

_BUILD = Info(
    "moorage_build",
    "Always 1; the labels say which Moorage this is. A rollout is under way while several "
    "versions are there.",
    registry=REGISTRY,
)
_BUILD.info({"version": importlib.metadata.version("moorage"), "python": platform.python_version()})

LOG_LINES_LOST = Counter(
    "moorage_log_lines_lost",
    "Lines that could not be written to the log: its disk is full, or nobody reads it.",
    registry=REGISTRY,
)
OTHER = "other"
"""The label of what has no room any more among the labels."""


class Bounded:
    """The first `most` different texts as they are, and all that come later as `other`.

    For labels whose values come from plugins: there are few of them, and we can't know it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, text: str) -> str:
        if text not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(text)
        return text
