"""LocalNetwork: a bridge a cluster, guarded by one nft table an install.

Opened:  rules -> bridge -> forwarding      (never a bridge without its rules)
Closed:  links -> rules -> forwarding       (likewise)

Nothing is remembered: each call looks at the links and at the table and does what is
lacking, so it may be repeated after a crash at any point, and after a reboot. Calls
for different clusters may run side by side; what reads and then changes the table is
done one at a time.
"""

from __future__ import annotations

import asyncio
import re
import socket
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from moorage.clients import nft
from moorage.networks import forwarding, links, rules
from moorage.networks.layout import Segment, alias
from moorage.networks.rules import Seen
from moorage.threads import to_its_end

_INSTALL = re.compile(r"[a-z0-9]{1,12}")


class LocalNetwork:
    """NodeNetwork on this machine.

    `install` ([a-z0-9]{1,12}) marks what is made; `public_address` is this machine's,
    as clients know it. Raises ValueError for an `install` that can't be part of a name.
    """

    def __init__(
        self,
        *,
        install: str,
        pool: IPv4Network,
        public_address: str,
        memory: Path = forwarding.MEMORY,
    ) -> None:
        if not _INSTALL.fullmatch(install):
            raise ValueError(f"an install's name must match {_INSTALL.pattern}, not {install!r}")
        self._install = install
        self._pool = pool
        self._public_address = public_address
        self._memory = memory
        self._table = asyncio.Lock()
        self._mtu: dict[int, int] = {}

    def address(self, slot: int, index: int) -> str:
        return str(self._segment(slot).address(index))

    def endpoint(self, slot: int) -> str:
        return f"{self._public_address}:{self._segment(slot).port}"

    def in_use(self, slot: int) -> bool:
        """Whether the slot's bridge is there, whoever made it."""
        try:
            socket.if_nametoindex(self._segment(slot).bridge)
        except OSError:
            return False
        return True

    async def open(self, owner: str, slot: int) -> None:
        """Raises Refused where a link of another install has the slot's name."""
        segment = self._segment(slot)
        await to_its_end(links.refuse_strangers, segment, self._install)
        uplinks = await to_its_end(links.uplinks)
        async with self._table:
            seen = await self._seen()
            await nft.apply(rules.opened(self._install, uplinks.names, segment, seen))
        mark = alias(self._install, owner)
        await to_its_end(links.make_bridge, segment, self._install, mark, uplinks.mtu)
        self._mtu[slot] = uplinks.mtu
        await to_its_end(forwarding.allow, self._memory)

    async def attach(self, owner: str, slot: int, node: str, index: int, pid: int) -> None:
        """Needs an open segment. Raises RetryLater where the process has ended."""
        mark = alias(self._install, owner, node)
        mtu = self._mtu.get(slot) or (await to_its_end(links.uplinks)).mtu
        await to_its_end(links.attach, self._segment(slot), index, mark, mtu, pid)

    def attached(self, slot: int, index: int) -> bool:
        return links.carries(self._segment(slot), index)

    async def detach(self, slot: int, index: int) -> None:
        await to_its_end(links.detach, self._segment(slot), index)

    async def publish(self, slot: int, address: str, port: int) -> None:
        """Needs an open segment. Nodes can't use the port, their own cluster's included."""
        segment = self._segment(slot)
        async with self._table:
            seen = await self._seen()
            await nft.apply(
                rules.published(self._install, segment, IPv4Address(address), port, seen)
            )

    async def close(self, slot: int) -> None:
        segment = self._segment(slot)
        self._mtu.pop(slot, None)
        await to_its_end(links.remove, segment, self._install)
        async with self._table:
            await nft.apply(rules.closed(self._install, segment, await self._seen()))
        await to_its_end(forwarding.release, self._memory)

    async def leftovers(self) -> list[str]:
        """What of this install is on the machine now, e.g. `link mrg7`, `table inet moorage_x`."""
        marked = await to_its_end(links.listed)
        mine = alias(self._install).split()
        found = [
            f"link {name}" for name, mark in sorted(marked.items()) if mark.split()[:2] == mine
        ]
        if await nft.table(rules.FAMILY, rules.table(self._install)) is not None:
            found.append(f"table {rules.FAMILY} {rules.table(self._install)}")
        return found

    def _segment(self, slot: int) -> Segment:
        return Segment.of(self._pool, slot)

    async def _seen(self) -> Seen:
        return Seen.of(await nft.table(rules.FAMILY, rules.table(self._install)))
