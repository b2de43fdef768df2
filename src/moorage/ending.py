"""How a server ends: what stops first, and what is still answered meanwhile.

    asked     /readyz says 503, on both listeners; no further turn, and no further step of
              those under way, which end with their claims given back
    conducted, and `seconds` over
              the API takes no more connections; requests under way are answered
    answered  the probes' listener goes, last

Asked a second time, it hurries: steps are cut off, their claims given back all the same, and
requests under way are not waited for. A part that ends by itself, by a bug, ends the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from moorage.api.listener import Listener
from moorage.api.readiness import Readiness
from moorage.conductor.loop import Conductor


class Ending:
    """`ask` is for signal handlers. `seconds`: so long at least the API still answers then."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._asked = asyncio.Event()
        self._hurry = asyncio.Event()

    def ask(self) -> None:
        """End; at the second time, at once."""
        (self._hurry if self._asked.is_set() else self._asked).set()

    async def conclude(
        self,
        ready: Readiness,
        listeners: Sequence[Listener],
        conductor: Conductor | None,
        conducting: asyncio.Task[None] | None,
    ) -> None:
        """Run the listeners, and return when all has ended. The last of `listeners` goes last.

        Raises what any part raised. A process that only serves has no conductor.
        """
        serving = [asyncio.create_task(listener.run()) for listener in listeners]
        parts = [*serving] if conducting is None else [conducting, *serving]
        asked = asyncio.create_task(self._asked.wait())
        hurrying = asyncio.create_task(self._hurried(listeners, conductor))
        try:
            await asyncio.wait((asked, *parts), return_when=asyncio.FIRST_COMPLETED)
            early = any(part.done() for part in parts)
            ready.stop()
            if conductor is not None:
                conductor.stop()
            if not early:
                await self._at_least(self._seconds)
            if conducting is not None:
                await asyncio.wait((conducting,))
            for listener, served in zip(listeners, serving, strict=True):
                listener.close()
                await asyncio.wait((served,))
        finally:
            for task in (asked, hurrying, *parts):
                task.cancel()
            await asyncio.gather(asked, hurrying, *parts, return_exceptions=True)
        for part in parts:
            if not part.cancelled():
                part.result()

    async def _hurried(self, listeners: Sequence[Listener], conductor: Conductor | None) -> None:
        await self._hurry.wait()
        if conductor is not None:
            conductor.hurry()
        for listener in listeners:
            listener.hurry()

    async def _at_least(self, seconds: float) -> None:
        """Wait so long, unless there is a hurry."""
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            pass
