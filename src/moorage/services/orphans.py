"""What is there, or may be, of clusters that have no row: for admins to see and to remove.

Such a thing is left by a delete by force, and by a restore from a backup that is older
than the cluster. Nothing of it is ever removed unless an admin says so. It is removed
within the request: without a row there is nothing that the conductor could claim. To ask
again is to go on. What is bound to a machine is removed there only, by the process that
conducts there: to any other one it looks as if it were gone.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Mapping

from moorage.model.caller import Caller, Permission
from moorage.model.errors import Conflict, MoorageError, NotFound, RetryLater
from moorage.model.orphan import Abandoned, Orphan
from moorage.model.ports import HasHome, NodeProvider, Traces
from moorage.services.access import require
from moorage.store import Store

PATIENCE = 30.0
"""Seconds that a provider may take to tell what it sees."""
REMOVE_SECONDS = 120.0


class OrphanService:
    """For admins. `providers`: those that are installed here, by name.

    `conducting`: this process conducts as well. Otherwise it leaves providers with a home alone.
    """

    def __init__(
        self, store: Store, providers: Mapping[str, NodeProvider], *, conducting: bool = True
    ) -> None:
        self._store = store
        self._providers = providers
        self._conducting = conducting

    async def list(self, caller: Caller) -> builtins.list[Orphan]:
        """Those that were abandoned first, then those that nobody noted, each by uuid."""
        require(caller, Permission.ADMIN)
        noted = {left.uuid: left for left in await self._store.abandoned.list()}
        # Seen first, asked for second: a cluster has its row before it has a node.
        seen = {name: await self._owned(name) for name in self._providers}
        known = await self._store.clusters.uuids()
        found = [await self._of(left, seen) for left in noted.values()]
        for name, owned in seen.items():
            for uuid in sorted((owned or frozenset()) - known - noted.keys()):
                if traces := await self._traces(name, uuid):
                    found.append(Orphan(uuid, name, traces, home=self._home(name)))
        return found

    async def remove(self, caller: Caller, uuid: str, *, forget: bool = False) -> None:
        """Have the providers take away what is there, then drop the record.

        `forget`: drop the record whatever is there, and touch nothing. Raises NotFound;
        Conflict for a cluster that has its row, whose provider is not installed here, or that
        is to be removed elsewhere; RetryLater with what could not be removed.
        """
        orphan = next((o for o in await self.list(caller) if o.uuid == uuid), None)
        if orphan is None:
            if uuid in await self._store.clusters.uuids():
                raise Conflict(f"Cluster {uuid} is no orphan: delete it as any other.")
            raise NotFound(f"Nothing is known of a cluster {uuid}, and nothing of it is seen.")
        if forget:
            if orphan.abandoned is None:
                raise Conflict(f"Nothing is noted of {uuid}: there is nothing to forget.")
        else:
            await self._clear(orphan)
        await self._store.abandoned.forget(uuid)

    async def _clear(self, orphan: Orphan) -> None:
        provider = self._providers.get(orphan.provider)
        if provider is None:
            raise Conflict(
                f"No provider {orphan.provider!r} is installed here that could remove it: install "
                "it, or remove by hand what is left and say that it is to be forgotten."
            )
        if isinstance(provider, HasHome):
            await self._refuse_elsewhere(orphan, provider.home)
        try:
            async with asyncio.timeout(REMOVE_SECONDS):
                nodes = await provider.observe(orphan.uuid)
                await asyncio.gather(*(provider.delete(node.ref) for node in nodes))
                if isinstance(provider, Traces):
                    await provider.clear(orphan.uuid)
                left = await provider.observe(orphan.uuid)
        except TimeoutError:
            raise RetryLater(
                f"{orphan.uuid} is not removed within {REMOVE_SECONDS:.0f} s: ask again."
            ) from None
        if left:
            names = ", ".join(node.name for node in left)
            raise RetryLater(f"Still there after their delete: {names}. Ask again.")

    async def _refuse_elsewhere(self, orphan: Orphan, here: str) -> None:
        """Raises Conflict where this process, at home `here`, is not the one to remove it."""
        or_forget = "If that machine is gone for good, say that it is to be forgotten."
        if orphan.home not in {"", here}:
            raise Conflict(
                f"It is on machine {_machine(orphan.home)}, and this is {_machine(here)}: ask the "
                f"Moorage that runs there. {or_forget}"
            )
        if not self._conducting:
            raise Conflict(
                f"This process is an API alone, and what provider {orphan.provider} has on machine "
                f"{_machine(here)} is its conductor's: ask a Moorage there that is both (`moorage "
                f"serve` without --only). {or_forget}"
            )
        others = {home.name for home in await self._store.homes.list()} - {here}
        if not orphan.home and not orphan.traces and others:
            machines = ", ".join(sorted(_machine(home) for home in others))
            raise Conflict(
                "It was abandoned before Moorage noted where, and is not seen on "
                f"{_machine(here)}; it may be on one of: {machines}. Look there, then say that "
                "it is to be forgotten."
            )

    def _home(self, name: str) -> str:
        """Of a provider; empty where it has none, or is not installed."""
        provider = self._providers.get(name)
        return provider.home if isinstance(provider, HasHome) else ""

    async def _of(self, left: Abandoned, seen: Mapping[str, frozenset[str] | None]) -> Orphan:
        elsewhere = left.home not in {"", self._home(left.provider)}
        owned = None if elsewhere else seen.get(left.provider)
        traces: tuple[str, ...] | None = None
        if owned is not None:
            traces = await self._traces(left.provider, left.uuid) if left.uuid in owned else ()
        return Orphan(left.uuid, left.provider, traces, left, left.home)

    async def _owned(self, name: str) -> frozenset[str] | None:
        """Whoever has something with this provider; None where it can't be asked."""
        provider = self._providers[name]
        if not isinstance(provider, Traces):
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                return frozenset(await provider.owned())
        except (MoorageError, TimeoutError):
            return None

    async def _traces(self, name: str, uuid: str) -> tuple[str, ...] | None:
        provider = self._providers[name]
        if not isinstance(provider, Traces):
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                return tuple(await provider.traces(uuid))
        except (MoorageError, TimeoutError):
            return None


def _machine(home: str) -> str:
    return home.partition("/")[0]
