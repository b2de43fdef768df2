"""A node as an OCI bundle: its config (pure) and its private root.

What makes it safe to give a tenant root in it: a user namespace of the cluster's
own sub-ids; a root directory that is not the machine's; the machine's /usr bound
read-only (and even when remounted writable by the node's root, its files belong to
ids that the node does not have); no device but the harmless ones; its own network,
process, mount, IPC, UTS and cgroup namespaces. Capabilities are full *within* that
user namespace: an engine needs them to make containers.

/proc is not masked: the kernel refuses a fresh proc to nested containers when the
outer one is partly covered (`mount_too_revealing`), and guards what matters by ids.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from moorage.model.node import NodeSpec
from moorage.providers.local import cgroups
from moorage.providers.local.place import Marks, Place, sync
from moorage.providers.local.slots import SUBIDS, subid

NAMESPACES = ("pid", "network", "mount", "uts", "ipc", "cgroup")
CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in """
    AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE
    DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN
    MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID
    SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE
    SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM
    """.split()
)
DEVICES = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2))
"""null, zero, full, random, urandom, tty, ptmx."""
PTS_MAJOR = 136
CPU_PERIOD = 100_000

DIRECTORIES = (
    *("dev", "etc", "etc/alternatives", "etc/ssl/certs", "home", "mnt", "opt", "proc", "root"),
    *("run", "srv", "sys", "tmp", "usr", "var", "var/lib", "var/lib/docker", "var/log", "var/tmp"),
)
LINKS = {name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64")} | {"var/run": "/run"}
TRUST = Path("/etc/ssl/certs")


def config(place: Place, spec: NodeSpec, marks: Marks) -> dict[str, Any]:
    """The bundle's `config.json` (OCI runtime specification 1.0)."""
    quiet = ["nosuid", "noexec", "nodev"]
    mapping = [{"containerID": 0, "hostID": subid(marks.slot), "size": SUBIDS}]
    return {
        "ociVersion": "1.0.2",
        "annotations": marks.annotations(),
        "hostname": spec.hostname,
        "root": {"path": "root", "readonly": False},
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["/usr/bin/tini", "-s", "--", "/usr/bin/sleep", "infinity"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME=/root",
                "LANG=C.UTF-8",
            ],
            "cwd": "/",
            "capabilities": {
                kind: list(CAPABILITIES) for kind in ("bounding", "effective", "permitted")
            },
        },
        "mounts": [
            _mount("/proc", "proc"),
            _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount(
                *("/dev/pts", "devpts", "nosuid", "noexec"),
                *("newinstance", "ptmxmode=0666", "mode=0620"),
            ),
            _mount("/dev/shm", "tmpfs", *quiet, "mode=1777", "size=65536k"),  # noqa: S108
            _mount("/dev/mqueue", "mqueue", *quiet),
            _mount("/sys", "sysfs", *quiet),
            _mount("/sys/fs/cgroup", "cgroup", *quiet, "relatime"),
            _mount("/run", "tmpfs", "nosuid", "nodev", "mode=755"),
            _bound("/usr"),
            *([_bound(str(TRUST))] if TRUST.exists() else []),
            *(_bound(path, source) for path, source in sorted(spec.shares.items())),
        ],
        "linux": {
            "namespaces": [
                {"type": "user", "path": str(place.userns)},
                *({"type": name} for name in NAMESPACES),
            ],
            "uidMappings": mapping,
            "gidMappings": mapping,
            "cgroupsPath": cgroups.path(marks.install, marks.owner, marks.node),
            "resources": {
                "memory": {"limit": spec.flavor.memory_mib * 2**20},
                "cpu": {"quota": spec.flavor.vcpus * CPU_PERIOD, "period": CPU_PERIOD},
                "pids": {"limit": spec.flavor.pids},
                "devices": [
                    {"allow": False, "access": "rwm"},
                    *(_device(major, minor) for major, minor in DEVICES),
                    {"allow": True, "type": "c", "major": PTS_MAJOR, "access": "rwm"},
                ],
            },
            "maskedPaths": [],
            "readonlyPaths": [],
        },
    }


def _mount(destination: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": kind, "options": list(options)}


def _bound(path: str, source: str = "") -> dict[str, Any]:
    options = ["rbind", "ro", "nosuid", "nodev"]
    return {"destination": path, "type": "bind", "source": source or path, "options": options}


def _device(major: int, minor: int) -> dict[str, Any]:
    return {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}


def lay_root(place: Place, spec: NodeSpec, marks: Marks, resolvers: str) -> None:
    """Make the private root of a node that has none. Nothing may be at `place.draft`.

    It is built beside its final place and renamed into it once its files are on the disk:
    a root that exists is whole, after a power cut too (a file system may keep a new name
    and lose what was written under it). It is not touched again, for from its first start
    on it is the tenant's, who may have put a link where we would write.
    """
    if place.root.exists():
        return
    draft = place.draft
    draft.mkdir(mode=0o755)
    for name in DIRECTORIES:
        (draft / name).mkdir(parents=True, exist_ok=True)
    for name, target in LINKS.items():
        (draft / name).symlink_to(target)
    for name, mode in (("tmp", 0o1777), ("var/tmp", 0o1777), ("root", 0o700)):
        (draft / name).chmod(mode)
    for name, target in _alternatives().items():
        (draft / "etc/alternatives" / name).symlink_to(target)
    for name, text in etc(spec, resolvers).items():
        (draft / "etc" / name).write_text(text)
        sync(draft / "etc" / name)
    uid = subid(marks.slot)
    for path in (draft, *draft.rglob("*")):
        os.lchown(path, uid, uid)
    draft.rename(place.root)


def etc(spec: NodeSpec, resolvers: str) -> dict[str, str]:
    """The node's /etc, all of it: nothing of the machine's is shared."""
    identity = uuid.uuid5(uuid.NAMESPACE_DNS, f"{spec.name}.{spec.owner}")
    return {
        "passwd": "root:x:0:0:root:/root:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        "group": "root:x:0:\ndocker:x:999:\nnogroup:x:65534:\n",
        "hostname": f"{spec.hostname}\n",
        "hosts": f"127.0.0.1 localhost\n127.0.1.1 {spec.hostname}\n",
        "machine-id": f"{identity.hex}\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "resolv.conf": resolvers,
    }


def _alternatives() -> dict[str, str]:
    """The links by which Debian chooses between the kinds of iptables: /usr needs them."""
    links: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError):
        for entry in Path("/etc/alternatives").iterdir():
            if "tables" in entry.name and entry.is_symlink():
                links[entry.name] = str(entry.readlink())
    return links


def resolvers() -> str:
    """The machine's `resolv.conf`, the upstream one where a stub on loopback stands before it."""
    for source in (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf")):
        with contextlib.suppress(FileNotFoundError):
            return source.read_text()
    return ""


def name_servers(resolvers: str) -> list[IPv4Network]:
    """Those by IPv4 that a `resolv.conf` names, but a node's own: on loopback is nobody else."""
    found = []
    for line in resolvers.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            with contextlib.suppress(ValueError):  # by IPv6
                found.append(IPv4Network(words[1]))
    return [one for one in found if not one.is_loopback]
