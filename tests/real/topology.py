"""A machine to try networks on: a network namespace in which the test itself runs.

    outside (198.51.100.2) ---- up0 (198.51.100.1, the public address)   the machine

Links, rules and sysctls of a network namespace vanish with its last process, so the
real machine sees none of what these tests do, however they end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

PUBLIC, OUTSIDE = "198.51.100.1", "198.51.100.2"
PATIENCE = 0.4
"""Seconds. What gets through at all gets through in a few milliseconds."""
NEWNET = 0x40000000

Result = TypeVar("Result")


def _libc(call: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, call)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), call)


def sh(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


def within(pid: int, act: Callable[[], Result]) -> Result:
    """Run it in a thread that is in the network namespace of the process."""

    def enter() -> Result:
        with Path(f"/proc/{pid}/ns/net").open() as namespace:
            _libc("setns", namespace.fileno(), NEWNET)
        return act()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(enter).result()


class Place:
    """A network namespace of its own, held by a sleeping process: a node, or another machine."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE
        )
        assert self.process.stdout
        self.process.stdout.readline()
        self.pid = self.process.pid
        self.sockets: list[socket.socket] = []

    def close(self) -> None:
        for each in self.sockets:
            each.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()

    def sh(self, command: str) -> str:
        return sh(f"nsenter -t {self.pid} -n sh -ec '{command}'")

    def do(self, act: Callable[[], Result]) -> Result:
        """Run it in a thread that is here; a socket made there stays here."""
        return within(self.pid, act)

    def listen(self, port: int) -> socket.socket:
        listener = self.do(lambda: _listener(port))
        self.sockets.append(listener)
        return listener

    def reaches(self, address: str, port: int) -> bool:
        return self.do(lambda: reaches(address, port))

    def send_as(self, source: str, target: str, port: int, own_port: int = 4321) -> None:
        """One UDP datagram with a source of our choice in its IP header."""

        def act() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
                raw.sendto(datagram(source, own_port, target, port), (target, port))

        self.do(act)

    def send_frame(self, to: str, kind: int, payload: bytes, link: str = "eth0") -> None:
        """One frame of Ethernet, by the node's own hardware address, whatever is in it."""

        def act() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
                raw.bind((link, 0))
                own = raw.getsockname()[4]
                head = bytes.fromhex(to.replace(":", "")) + own + struct.pack("!H", kind)
                raw.send(head + payload)

        self.do(act)


def datagram(source: str, own_port: int, target: str, port: int) -> bytes:
    """UDP over IPv4. The sum of the header is right, for routers look at it."""
    udp = struct.pack("!HHHH", own_port, port, 8 + 4, 0) + b"hail"
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, socket.IPPROTO_UDP, 0)
    return header[:10] + checksum(header + addresses) + addresses + udp


def datagram6(source: str, own_port: int, target: str, port: int) -> bytes:
    """UDP over IPv6, where it must have a sum."""
    udp = struct.pack("!HHHH", own_port, port, 8 + 4, 0) + b"hail"
    addresses = b"".join(socket.inet_pton(socket.AF_INET6, each) for each in (source, target))
    total = checksum(addresses + struct.pack("!II", len(udp), socket.IPPROTO_UDP) + udp)
    header = struct.pack("!IHBB", 6 << 28, len(udp), socket.IPPROTO_UDP, 64)
    return header + addresses + udp[:6] + total + udp[8:]


def checksum(data: bytes) -> bytes:
    """The Internet's, of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


@contextlib.contextmanager
def neighbour() -> Iterator[Place]:
    """Another machine beside the one that the test itself is on, at OUTSIDE; this one is PUBLIC."""
    place = Place()
    try:
        sh(
            f"ip link add up0 type veth peer up1 netns {place.pid};"
            f"ip addr add {PUBLIC}/24 dev up0; ip link set up0 up"
        )
        place.sh(
            f"ip link set lo up; ip addr add {OUTSIDE}/24 dev up1; ip link set up1 up;"
            f"ip route add default via {PUBLIC}"
        )
        yield place
    finally:
        place.close()
        sh("ip link del up0 2>/dev/null || :")  # the namespace takes it away, but not at once


class Machine:
    """The namespace that the test runs in, and the machine beyond its uplink."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.sockets: list[socket.socket] = []
        self.outside = self.place()
        sh(
            f"ip link set lo up; ip link add up0 mtu 1450 type veth peer up1;"
            f"ip link set up1 netns {self.outside.pid}; ip addr add {PUBLIC}/24 dev up0;"
            f"ip link set up0 up; sysctl -qw net.ipv4.ip_forward=0"
        )
        self.outside.sh(
            f"ip link set lo up; ip addr add {OUTSIDE}/24 dev up1; ip link set up1 mtu 1450 up;"
            f"ip route add default via {PUBLIC}"
        )
        sh(f"ip route add default via {OUTSIDE}")

    def place(self) -> Place:
        made = Place()
        self.places.append(made)
        return made

    def listen(self, port: int) -> socket.socket:
        listener = _listener(port)
        self.sockets.append(listener)
        return listener

    def state(self) -> dict[str, str]:
        """What a network may have changed."""
        return {
            command: sh(command)
            for command in (
                "ip -o link | sed s/.*qlen.*//",
                'ip -o addr | sed "s, tentative,,"',
                "ip route",
                "nft -s list ruleset",
                "iptables-nft -S",
                "iptables-legacy -S",
                "sysctl net.ipv4.ip_forward",
            )
        }

    def close(self) -> None:
        for each in self.sockets:
            each.close()
        for place in self.places:
            place.close()


def _listener(port: int) -> socket.socket:
    """Answers the handshakes of IPv4 and IPv6, with no thread of its own."""
    return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)


def reaches(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), PATIENCE):
        return True
    return False


@contextlib.contextmanager
def new_machine() -> Iterator[Machine]:
    """Move the calling thread to a new machine, and back."""
    with Path("/proc/thread-self/ns/net").open() as home:
        _libc("unshare", NEWNET)
        machine = None
        try:
            machine = Machine()
            yield machine
        finally:
            if machine:
                machine.close()
            _libc("setns", home.fileno(), NEWNET)
            assert os.fstat(home.fileno()).st_ino == Path("/proc/thread-self/ns/net").stat().st_ino
