"""Bridges and veth pairs, by netlink. Blocking: call from a thread.

Each call opens its own netlink socket (about 0.8 ms) in the network namespace of the
thread it runs in, so nothing is shared between threads and nothing is kept open.
Work inside another namespace is done by a thread of its own that ends with it: no
other code can ever run there by mistake.

A link is known by its name, which holds the slot, and its alias, which says whose it
is; a crash between the two leaves a link without alias, which counts as ours.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from moorage.model.errors import Refused, RetryLater
from moorage.networks.layout import PREFIX, Segment, mac

INSIDE = "eth0"
"""The node's end of its link, as the node knows it."""
_CLONE_NEWNET = 0x40000000
_NTF_MASTER, _NUD_NOARP, _NUD_PERMANENT = 0x04, 0x40, 0x80
_ATF_PERM = 0x04
_MTU = 1500

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Uplinks:
    """The links of this machine's IPv4 default routes, and the smallest of their MTUs."""

    names: tuple[str, ...]
    mtu: int


def uplinks() -> Uplinks:
    with _netlink() as wire:
        indexes = {route.get("oif") for route in wire.get_default_routes(family=2)} - {None}
        links = [link for index in indexes for link in wire.link("get", index=index)]
        names = tuple(sorted(link.get("ifname") for link in links))
        return Uplinks(names, min((link.get("mtu") for link in links), default=_MTU))


def listed(prefix: str = PREFIX) -> dict[str, str]:
    """The aliases of this machine's links whose names begin so, by name."""
    with _netlink() as wire:
        links = {link.get("ifname"): link.get("ifalias") or "" for link in wire.get_links()}
    return {name: alias for name, alias in links.items() if name.startswith(prefix)}


def other_bridges() -> bool:
    """Whether a bridge is up that Moorage did not make: something else may forward through it."""
    with _netlink() as wire:
        return any(
            link.get(("linkinfo", "kind")) == "bridge" and link["flags"] & 1
            for link in wire.get_links()
            if not link.get("ifname").startswith(PREFIX)
        )


def refuse_strangers(segment: Segment, install: str) -> None:
    """Refused where a link with one of the segment's names is another install's."""
    for name, alias in listed(segment.bridge).items():
        if segment.has(name) and alias and alias.split()[:2] != ["moorage", install]:
            raise Refused(f"the link {name} is in the way; it is marked {alias!r}")


def make_bridge(segment: Segment, install: str, alias: str, mtu: int) -> None:
    """The segment's bridge, up, with the gateway's address.

    What an earlier owner of the slot left there goes. Raises Refused as `refuse_strangers`.
    """
    with _netlink() as wire:
        found = _find(wire, segment.bridge)
        if found is not None and found.get("ifalias") not in {alias, None}:
            remove(segment, install)
            found = None
        if found is None:
            name, address = segment.bridge, mac(segment.gateway)
            wire.link("add", ifname=name, kind="bridge", address=address, mtu=mtu)
            found = _get(wire, segment.bridge)
        index = found["index"]
        wire.link("set", index=index, ifalias=alias, mtu=mtu)
        _without_ipv6(segment.bridge)
        # Of its other addresses it tells nobody here: there is a gateway where there is a cluster.
        Path(f"/proc/sys/net/ipv4/conf/{segment.bridge}/arp_ignore").write_text("1")
        _address(wire, index, segment.gateway)
        wire.link("set", index=index, state="up")


def attach(segment: Segment, index: int, alias: str, mtu: int, pid: int) -> None:
    """A veth pair between the bridge and `eth0` in the network namespace of `pid`.

    A pair that is there already is kept and set right; a stale end is replaced.
    RetryLater where there is no such process.
    """
    with _namespace(pid) as namespace, _netlink() as wire:
        name, address = segment.link(index), segment.address(index)
        outer = _find(wire, name)
        inner = _within(namespace, lambda there: _find(there, INSIDE))
        if not (outer and inner and _paired(outer, inner)):
            if outer:
                _delete(wire, outer["index"])
            if inner:
                _within(namespace, lambda there: _delete(there, inner["index"]))
            peer = {"ifname": INSIDE, "net_ns_fd": namespace, "address": mac(address), "mtu": mtu}
            wire.link("add", ifname=name, kind="veth", mtu=mtu, peer=peer)
            outer = _get(wire, name)
        bridge = _get(wire, segment.bridge)["index"]
        wire.link("set", index=outer["index"], ifalias=alias, mtu=mtu, master=bridge)
        _pin(wire, outer["index"], mac(address))
        _without_ipv6(name)
        wire.link("set", index=outer["index"], state="up")
        _within(namespace, lambda there: _configure(there, segment, address, mtu))
        # Last, for by this the link is seen to have all of it (`acquainted`).
        _acquaint(wire, bridge, address)


def carries(segment: Segment, index: int) -> bool:
    """Whether the node's link is in its bridge, and both of its ends are up. Cheap: no netlink."""
    link = Path("/sys/class/net") / segment.link(index)
    try:  # the kernel says EINVAL for the carrier of a link that is down
        return (link / "carrier").read_text() == "1\n" and (link / "master").exists()
    except OSError:
        return False


def acquainted() -> frozenset[tuple[str, str]]:
    """The links and addresses of the neighbours that this machine need not ask for. No netlink."""
    lines = Path("/proc/thread-self/net/arp").read_text().splitlines()[1:]
    rows = (line.split() for line in lines)
    return frozenset((row[-1], row[0]) for row in rows if int(row[2], 16) & _ATF_PERM)


def detach(segment: Segment, index: int) -> None:
    with _netlink() as wire:
        if found := _find(wire, segment.link(index)):
            _delete(wire, found["index"])


def remove(segment: Segment, install: str) -> None:
    """Take the segment's links away, all at once (each waits for the kernel some 20 ms).

    Raises Refused, before anything is removed, as `refuse_strangers`.
    """
    refuse_strangers(segment, install)
    with _netlink() as wire:
        found = [link for link in wire.get_links() if segment.has(link.get("ifname"))]

    def delete(index: int) -> None:
        with _netlink() as wire:
            _delete(wire, index)

    if found:
        with ThreadPoolExecutor(max_workers=8) as threads:
            list(threads.map(delete, [link["index"] for link in found]))


def _configure(wire: IPRoute, segment: Segment, address: IPv4Address, mtu: int) -> None:
    wire.link("set", index=1, state="up")
    index = _get(wire, INSIDE)["index"]
    wire.link("set", index=index, mtu=mtu)
    _address(wire, index, address)
    wire.link("set", index=index, state="up")
    _acquaint(wire, index, segment.gateway)
    wire.route("replace", dst="default", gateway=str(segment.gateway), oif=index)


def _address(wire: IPRoute, index: int, address: IPv4Address) -> None:
    broadcast = str(address).rpartition(".")[0] + ".255"
    wire.addr("replace", index=index, address=str(address), prefixlen=24, broadcast=broadcast)


def _pin(wire: IPRoute, index: int, address: str) -> None:
    """Tell the bridge the address behind this port, and let it learn no other.

    A node that makes up addresses could fill the machine's memory with them: 250,000 a
    second, kept for 300 seconds. What the bridge doesn't know goes to all of its ports.
    """
    wire.brport("set", index=index, learning=0)
    wire.fdb("replace", ifindex=index, lladdr=address, flags=_NTF_MASTER, state=_NUD_NOARP)


def _acquaint(wire: IPRoute, index: int, neighbour: IPv4Address) -> None:
    """Whose address it is needs no asking: the neighbour's, whoever else of the segment answers.

    Such entries are not of the thousand that the kernel keeps of all neighbours of all
    namespaces, and which any node can use up.
    """
    lladdr = mac(neighbour)
    wire.neigh("replace", ifindex=index, dst=str(neighbour), lladdr=lladdr, state=_NUD_PERMANENT)


def _paired(outer: Any, inner: Any) -> bool:
    """Whether two links, each seen from its own namespace, are the ends of one veth."""
    return bool(outer.get("link") == inner["index"] and inner.get("link") == outer["index"])


def _get(wire: IPRoute, name: str) -> Any:
    (link,) = wire.link("get", ifname=name)
    return link


def _find(wire: IPRoute, name: str) -> Any | None:
    try:
        return _get(wire, name)
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise


def _delete(wire: IPRoute, index: int) -> None:
    """Its other end, or its namespace, may take a link away while we ask for it."""
    try:
        wire.link("del", index=index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


def _without_ipv6(link: str) -> None:
    """The host must have no IPv6 address on a segment; a kernel without IPv6 has none anyway."""
    with suppress(FileNotFoundError):
        Path(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6").write_text("1")


@contextmanager
def _netlink() -> Iterator[IPRoute]:
    """A netlink socket of the calling thread's namespace."""
    # pyroute2 runs on asyncio; a loop of ours, because uvloop's can't carry netlink.
    loop = asyncio.SelectorEventLoop()
    try:
        with IPRoute(use_event_loop=loop) as wire:
            yield wire
        loop.run_until_complete(asyncio.sleep(0))  # lets the transport finish closing
    finally:
        loop.close()


@contextmanager
def _namespace(pid: int) -> Iterator[int]:
    """The network namespace of a process, held open: from here on the pid may be reused."""
    try:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        raise RetryLater(f"the process {pid} ended before it had its network") from None
    try:
        if os.path.samestat(os.fstat(namespace), Path("/proc/thread-self/ns/net").stat()):
            raise RuntimeError(f"process {pid} has no network namespace of its own")
        yield namespace
    finally:
        os.close(namespace)


def _within(namespace: int, work: Callable[[IPRoute], Result]) -> Result:
    """Do `work` in the namespace, in a thread that ends with it."""

    def enter() -> Result:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        with _netlink() as wire:
            return work(wire)

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(enter).result()
