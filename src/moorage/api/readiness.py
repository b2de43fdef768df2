"""Whether Moorage can do its work, part by part, each with its reason where it can't.

A look at all parts takes `seconds` at the most and is good for `KEPT_SECONDS`: those who ask
meanwhile share it, so that nobody can keep the database busy by asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic

import structlog

from moorage.model.errors import MoorageError

Check = Callable[[], Awaitable[None]]
"""Returns where the part is well; raises RetryLater with what is missing."""
SECONDS = 2.0
KEPT_SECONDS = 1.0
STOPPING = "stopping: what is under way ends, and nothing new should be sent here"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """`parts`: each part's reason for not being well, None where it is."""

    parts: Mapping[str, str | None]

    @property
    def ready(self) -> bool:
        return not any(self.parts.values())


class Readiness:
    """The parts that this process has. `stop` is for the moment in which its end begins."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        *,
        seconds: float = SECONDS,
        kept_seconds: float = KEPT_SECONDS,
    ) -> None:
        self._checks = checks
        self._seconds = seconds
        self._kept_seconds = kept_seconds
        self._stopping = False
        self._looking: asyncio.Task[Report] | None = None
        self._looked = float("-inf")

    def stop(self) -> None:
        """From now on it is not ready."""
        self._stopping = True

    async def look(self) -> Report:
        if self._stopping:
            return Report({"process": STOPPING})
        looking = self._looking
        if looking is None or (looking.done() and monotonic() > self._looked):
            looking = self._looking = asyncio.create_task(self._look())
        return await asyncio.shield(looking)

    async def _look(self) -> Report:
        reasons = await asyncio.gather(*(self._try(*part) for part in self._checks.items()))
        self._looked = monotonic() + self._kept_seconds
        return Report({"process": None, **dict(zip(self._checks, reasons, strict=True))})

    async def _try(self, name: str, check: Check) -> str | None:
        try:
            async with asyncio.timeout(self._seconds):
                await check()
        except MoorageError as error:
            return error.reason
        except TimeoutError:
            return f"no answer within {self._seconds:g} s"
        except Exception:
            # What it says may be anyone's: it stays in the log.
            log.exception("a part of readiness failed", part=name)
            return "failed; the log has the cause"
        return None
