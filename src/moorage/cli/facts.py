"""What is so on this machine, gathered without changing it: `doctor.py` judges it.

The kernel's own word is taken (/proc, /sys); what only a try can tell is tried in
namespaces of its own that end with the try.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moorage.releases import Releases

TOOLS = (
    *("runc", "dockerd", "containerd", "containerd-shim-runc-v2", "docker", "docker-proxy"),
    "haproxy",
    *("ip", "iptables", "nft", "tini", "nsenter", "unshare", "busybox"),
    *("conntrack", "etcd", "runsvdir", "pdns_recursor", "curl", "bridge"),
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What a node sees of the machine are such directories below /usr."""
PLUGINS = "/usr/lib/cni"
"""Where Debian puts the programs that connect pods. (Iproute2 has a `bridge` as well.)"""
CAP_SYS_RESOURCE = 24
TRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SubIds:
    """A line of /etc/subuid or /etc/subgid."""

    file: str
    owner: str
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the machine's main table; `link` is its interface."""

    network: ipaddress.IPv4Network
    link: str


@dataclass(frozen=True, slots=True)
class Facts:
    """One machine. Memory is in MiB, disk in GiB. None: the kernel does not have it."""

    euid: int = 0
    python: tuple[int, int] = (3, 11)
    machine: str = "x86_64"
    kernel: str = ""
    tools: dict[str, str] = field(default_factory=dict)
    """The path of each of TOOLS that is there."""
    versions: dict[str, str] = field(default_factory=dict)
    cgroup: str | None = "v2"
    """`v1`, `v2`, `hybrid` (v1 controllers beside a v2 tree), None."""
    controllers: frozenset[str] = frozenset()
    user_namespaces: str = ""
    """Why none can be made; empty: they can."""
    overlay: str = ""
    """Why overlayfs can't be mounted in one; empty: it can."""
    links: dict[str, str] = field(default_factory=dict)
    """Why a kind of link (veth, bridge, vxlan) can't be made; empty: it can."""
    ipvs: bool = False
    ipvs_module: bool = False
    kvm: bool = False
    apparmor: bool = False
    sys_resource: bool = False
    ip_forward: bool = False
    bridge_filter: bool | None = None
    """`bridge-nf-call-iptables`; None: br_netfilter is not loaded."""
    subids: tuple[SubIds, ...] = ()
    routes: tuple[Route, ...] = ()
    memory_total: int = 0
    memory_free: int = 0
    disk_free: float = 0.0
    ports_taken: frozenset[int] = frozenset()
    releases: tuple[str, ...] = ()
    """The versions of Kubernetes that are there, the newest first."""


def gather(state: Path, host: str, ports: Iterable[int]) -> Facts:
    """Look at this machine, as one that is to serve `ports` on `host` from `state`."""
    where = {"bridge": PLUGINS}
    tools = {n: path for n in TOOLS if (path := shutil.which(n, path=where.get(n, PATH)))}
    cgroup, controllers = _cgroups(Path("/sys/fs/cgroup"))
    memory = _memory(_read("/proc/meminfo"))
    bridge = _read("/proc/sys/net/bridge/bridge-nf-call-iptables")
    return Facts(
        euid=os.geteuid(),
        python=sys.version_info[:2],
        machine=platform.machine(),
        kernel=platform.release(),
        tools=tools,
        versions={name: _version(tools[name]) for name in ("runc", "dockerd") if name in tools},
        cgroup=cgroup,
        controllers=controllers,
        user_namespaces=_try(["unshare", "--user", "--map-root-user", "true"]),
        overlay=_try_overlay(),
        links={
            kind: _try(["unshare", "--net", "ip", "link", "add", "probe0", "type", kind, *more])
            for kind, more in (
                ("veth", ()),
                ("bridge", ()),
                ("vxlan", ("id", "1", "dstport", "4789")),
            )
        },
        ipvs=Path("/proc/net/ip_vs").exists(),
        ipvs_module=_has_module("ip_vs"),
        kvm=os.access("/dev/kvm", os.R_OK | os.W_OK),
        apparmor=_read("/sys/module/apparmor/parameters/enabled").strip() == "Y",
        sys_resource=bool(_capabilities(_read("/proc/self/status")) >> CAP_SYS_RESOURCE & 1),
        ip_forward=_read("/proc/sys/net/ipv4/ip_forward").strip() == "1",
        bridge_filter=bridge.strip() == "1" if bridge else None,
        subids=tuple(
            line
            for file in ("/etc/subuid", "/etc/subgid")
            for line in parse_subids(file, _read(file))
        ),
        routes=tuple(parse_routes(_read("/proc/net/route"))),
        memory_total=memory.get("MemTotal", 0) // 1024,
        memory_free=memory.get("MemAvailable", 0) // 1024,
        disk_free=shutil.disk_usage(_existing(state)).free / 2**30,
        ports_taken=frozenset(port for port in ports if port_taken(host, port)),
        releases=_releases(state),
    )


def _releases(state: Path) -> tuple[str, ...]:
    with contextlib.suppress(OSError):  # not root's
        return tuple(str(release.version) for release in Releases(state).list())
    return ()


def parse_subids(file: str, text: str) -> list[SubIds]:
    """The lines `owner:first:count`; others are not ours to judge."""
    found = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            owner, first, count = line.split(":")
            found.append(SubIds(file, owner, int(first), int(count)))
    return found


def parse_routes(text: str) -> list[Route]:
    """/proc/net/route: destination and mask are little-endian hexadecimal numbers."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        destination, mask = (
            ipaddress.IPv4Address(int(words[column], 16).to_bytes(4, "little")) for column in (1, 7)
        )
        found.append(Route(ipaddress.IPv4Network(f"{destination}/{mask}"), words[0]))
    return found


def port_taken(host: str, port: int) -> bool:
    """Whether listening there fails, as it does while another process does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError:
            return True
    return False


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def _memory(text: str) -> dict[str, int]:
    """/proc/meminfo, in KiB."""
    return {
        name: int(rest.split()[0])
        for name, _, rest in (x.partition(":") for x in text.splitlines())
    }


def _capabilities(status: str) -> int:
    words = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")]
    return int(words[0], 16) if words else 0


def _cgroups(root: Path) -> tuple[str | None, frozenset[str]]:
    unified = root / "cgroup.controllers"
    if unified.exists():
        return "v2", frozenset(unified.read_text().split())
    if not root.is_dir():
        return None, frozenset()
    names = frozenset(
        name
        for entry in root.iterdir()
        if entry.is_dir() and (entry / "cgroup.procs").exists()
        for name in entry.name.split(",")
    )
    if not names:
        return None, names
    return ("hybrid" if "unified" in names else "v1"), names - {"unified", "systemd"}


def _has_module(name: str) -> bool:
    folder = Path("/lib/modules", platform.release())
    return any(
        name == Path(line.partition(":")[0]).name.partition(".")[0]
        for listing in ("modules.dep", "modules.builtin")
        for line in _read(str(folder / listing)).splitlines()
    )


def _version(tool: str) -> str:
    try:
        done = _run([tool, "--version"])
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.partition("\n")[0].strip()


def _try(argv: Sequence[str]) -> str:
    """Why `argv` fails; empty where it does not."""
    try:
        done = _run(argv)
    except FileNotFoundError:
        return f"`{argv[0]}` is missing"
    except (OSError, subprocess.TimeoutExpired) as wrong:
        return str(wrong)
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def _try_overlay() -> str:
    with tempfile.TemporaryDirectory(prefix="moorage-doctor-") as place:
        for name in ("lower", "upper", "work", "merged"):
            Path(place, name).mkdir()
        options = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work"
        inside = ["mount", "-t", "overlay", "overlay", "-o", options, f"{place}/merged"]
        return _try(["unshare", "--user", "--map-root-user", "--mount", *inside])


def _run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=TRY_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
        env={"PATH": PATH, "LC_ALL": "C"},
    )
