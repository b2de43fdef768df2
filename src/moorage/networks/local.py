"""LocalNetwork: a bridge a cluster, guarded by one nft table an install.

Opened:  rules -> bridge -> forwarding      (never a bridge without its rules, or with the
                                            connections of who had it before)
Closed:  links -> rules -> forwarding       (likewise)

Nothing is remembered: each call looks at the links and at the table and does what is
lacking, so it may be repeated after a crash at any point, and after a reboot. Calls
for different clusters may run side by side; what reads and then changes the table is
done one at a time.

What others do to the machine's packet filter (Debian's own `/etc/nftables.conf` begins with
`flush ruleset`) is seen by looking: `trouble` lists the table for all clusters together, once in
LOOK_SECONDS at the most (5 ms of a child's time with 100 clusters, 23 ms with 1000).
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from time import monotonic

from pyroute2.netlink.exceptions import NetlinkError

from moorage.clients import conntrack, nft
from moorage.model.errors import MoorageError, RetryLater
from moorage.networks import forwarding, links, rules
from moorage.networks.layout import PREFIX, Segment, alias
from moorage.networks.rules import Door, Seen
from moorage.threads import to_its_end

LOOK_SECONDS = 1.0
_UNSEEN = (
    *(nft.NftError, NetlinkError, MoorageError, OSError),
    *(KeyError, TypeError, ValueError),  # elements of others' making, in forms that ours don't have
)
_INSTALL = re.compile(r"[a-z0-9]{1,12}")
_BRIDGE = re.compile(rf"{PREFIX}([0-9]{{1,4}})")


@dataclass(frozen=True, slots=True)
class _Look:
    """What all segments have in common, as it was at the monotonic time `at`."""

    at: float
    uplinks: tuple[str, ...] = ()
    seen: Seen = field(default_factory=Seen)
    trouble: str = ""
    """Of the machine as a whole."""


class LocalNetwork:
    """NodeNetwork on this machine.

    `install` ([a-z0-9]{1,12}) marks what is made; `public_address` is this machine's, as clients
    know it; `door`: the one port of it that masters may come to. Raises ValueError for an
    `install` that can't be part of a name.
    """

    def __init__(
        self,
        *,
        install: str,
        pool: IPv4Network,
        public_address: str,
        door: Door | None = None,
        memory: Path = forwarding.MEMORY,
    ) -> None:
        if not _INSTALL.fullmatch(install):
            raise ValueError(f"an install's name must match {_INSTALL.pattern}, not {install!r}")
        self._install = install
        self._pool = pool
        self._public_address = public_address
        self._door = door
        self._memory = memory
        self._table = asyncio.Lock()
        self._looked: _Look | None = None
        """None once something was changed; only read and set with `_table` held."""
        self._mtu: dict[int, int] = {}
        self._acquainted: tuple[float, frozenset[tuple[str, str]]] | None = None
        """When this machine's neighbours were listed, and who they were: once for many looks."""

    @property
    def pool(self) -> IPv4Network:
        return self._pool

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
            # With the lock: who closes takes the links away first, and the rules with it.
            framed = rules.framed(uplinks.names, seen, self._door)
            others = [] if framed else await self._segments()
            await nft.apply(
                rules.opened(self._install, uplinks.names, segment, seen, others, door=self._door)
            )
        mark = alias(self._install, owner)
        there = await to_its_end(links.listed, segment.bridge)
        if there.get(segment.bridge) != mark:
            # Whoever had the addresses before has been promised answers, for days.
            await conntrack.forget(segment.network)
        await to_its_end(links.make_bridge, segment, self._install, mark, uplinks.mtu)
        self._mtu[slot] = uplinks.mtu
        await to_its_end(forwarding.allow, self._memory)
        async with self._table:
            self._looked = None

    async def attach(self, owner: str, slot: int, node: str, index: int, pid: int) -> None:
        """Needs an open segment. Raises RetryLater where the process has ended."""
        mark = alias(self._install, owner, node)
        mtu = self._mtu.get(slot) or (await to_its_end(links.uplinks)).mtu
        await to_its_end(links.attach, self._segment(slot), index, mark, mtu, pid)
        self._acquainted = None

    def attached(self, slot: int, index: int) -> bool:
        segment = self._segment(slot)
        if not links.carries(segment, index):
            return False
        if self._acquainted is None or monotonic() - self._acquainted[0] >= LOOK_SECONDS:
            self._acquainted = monotonic(), links.acquainted()
        return (segment.bridge, str(segment.address(index))) in self._acquainted[1]

    async def detach(self, slot: int, index: int) -> None:
        await to_its_end(links.detach, self._segment(slot), index)

    async def trouble(self, slot: int, port: int | None, masters: Sequence[str] = ()) -> str:
        segment, look = self._segment(slot), await self._looked_lately()
        return look.trouble or rules.trouble(
            look.uplinks, segment, port, look.seen, masters=masters, door=self._door
        )

    async def led_to(self, slot: int) -> str:
        look = await self._looked_lately()
        return look.seen.published.get(self._segment(slot).port, ("", 0))[0]

    async def publish(
        self, slot: int, address: str, port: int, masters: Sequence[str] = ()
    ) -> None:
        """Needs an open segment: RetryLater where the packet filter lost it.

        Nodes can't use the port, their own cluster's included.
        """
        segment = self._segment(slot)
        async with self._table:
            seen, self._looked = await self._seen(), None
            if segment.bridge not in seen.bridges:
                raise RetryLater(f"the packet filter lost the rules of {segment.bridge}")
            await nft.apply(
                rules.published(
                    self._install, segment, IPv4Address(address), port, seen, masters=masters
                )
            )

    async def dismiss(self, slot: int, address: str) -> None:
        segment = self._segment(slot)
        async with self._table:
            seen, self._looked = await self._seen(), None
            await nft.apply(rules.dismissed(self._install, segment, address, seen))

    async def close(self, slot: int) -> None:
        segment = self._segment(slot)
        self._mtu.pop(slot, None)
        await to_its_end(links.remove, segment, self._install)
        async with self._table:
            self._looked = None
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

    async def _segments(self) -> list[Segment]:
        """Those of this install's that have a bridge."""
        marked, mine = await to_its_end(links.listed), alias(self._install).split()
        return [
            self._segment(int(bridge[1]))
            for name, mark in marked.items()
            if mark.split()[:2] == mine and (bridge := _BRIDGE.fullmatch(name))
        ]

    async def _looked_lately(self) -> _Look:
        async with self._table:
            if self._looked is None or monotonic() - self._looked.at >= LOOK_SECONDS:
                self._looked = await self._look()
            return self._looked

    async def _look(self) -> _Look:
        try:
            uplinks = await to_its_end(links.uplinks)
            seen = await self._seen()
            # The table first: with a flush of everything, it is what matters.
            trouble = await to_its_end(forwarding.lacking) if seen.digest else ""
        except _UNSEEN as error:  # a finding: looks, and deletes with them, go on
            return _Look(monotonic(), trouble=f"the packet filter can't be asked: {error}")
        return _Look(monotonic(), uplinks.names, seen, trouble)

    async def _seen(self) -> Seen:
        return Seen.of(await nft.table(rules.FAMILY, rules.table(self._install)))
