"""What this machine has and lacks, what a lack costs, and the line that mends it.

Pure: `examine` judges Facts and nothing else, so that every verdict can be tested
without the machine that it is about.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

from moorage.cli.facts import Facts

FIRST_SUBID = 1879048192
LAST_SUBID = 2147418111
"""The sub-ids that the clusters' nodes take: 4095 ranges of 65,536."""
OUR_LINKS = "mrg"
"""What the names of our own links begin with: their routes lie in the pool by right."""
CONTROLLERS = ("cpu", "memory", "pids")
MEMORY_MIB = 2048
"""Moorage and a cluster of three `tiny` nodes."""
DISK_GIB = 5.0
PACKAGES = {
    "runc": "runc",
    "dockerd": "docker.io",
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "docker-proxy": "docker.io",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "iptables": "iptables",
    "nft": "nftables",
    "conntrack": "conntrack",
    "tini": "tini",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}
"""Debian's package of each command that a node or Moorage needs."""
OF_KUBERNETES = {
    "etcd": "etcd-server",
    "runsvdir": "runit",
    "pdns_recursor": "pdns-recursor",
    "curl": "curl",
    "bridge": "containernetworking-plugins",
}
"""As PACKAGES, for what nodes of Kubernetes need beside those."""
WHY = {
    "runc": "it makes the nodes",
    "dockerd": "it is the engine in a Swarm node",
    "containerd": "dockerd needs it",
    "containerd-shim-runc-v2": "containerd needs it",
    "docker-proxy": "published ports need it",
    "haproxy": "it stands before dockerd, and asks for certificates",
    "ip": "it is needed in the nodes",
    "iptables": "dockerd needs it",
    "nft": "it keeps the clusters apart",
    "conntrack": "it ends the connections of clusters that are gone",
    "tini": "it is the first process of a node",
    "nsenter": "it is needed to reach into nodes",
    "unshare": "this check needs it",
}


class Verdict(enum.StrEnum):
    OK = "ok"
    LIMITED = "limited"
    """It works, at the cost that is named."""
    MISSING = "missing"
    """Moorage can't work without it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: `seen` is what is so, `cost` what it takes away, `mend` a line to type."""

    name: str
    verdict: Verdict
    seen: str
    cost: str = ""
    mend: str = ""

    def as_dict(self) -> dict[str, str]:
        return {name: str(value) for name, value in asdict(self).items()}


def examine(facts: Facts, pool: ipaddress.IPv4Network, ports: Mapping[int, str]) -> list[Finding]:
    """Everything that matters, the necessary first.

    `ports` are those that Moorage will take, each with the name of its setting.
    """
    return [
        *_base(facts),
        *_tools(facts),
        *_kernel(facts),
        *_claims(facts, pool, ports),
        *_room(facts),
        *_extras(facts),
    ]


def missing(findings: Iterable[Finding]) -> list[Finding]:
    """Those without which Moorage can't start."""
    return [finding for finding in findings if finding.verdict is Verdict.MISSING]


def _required(name: str, ok: bool, seen: str, cost: str, mend: str) -> Finding:
    if ok:
        return Finding(name, Verdict.OK, seen)
    return Finding(name, Verdict.MISSING, seen, cost, mend)


def _wished(name: str, ok: bool, seen: str, cost: str, mend: str) -> Finding:
    if ok:
        return Finding(name, Verdict.OK, seen)
    return Finding(name, Verdict.LIMITED, seen, cost, mend)


def _base(facts: Facts) -> Iterator[Finding]:
    yield _required(
        "root",
        facts.euid == 0,
        f"uid {facts.euid}",
        "nodes, links and cgroups can't be made",
        "run it as root: sudo moorage …",
    )
    python = ".".join(map(str, facts.python))
    yield _required(
        "python",
        facts.python >= (3, 11),
        python,
        "Moorage needs Python 3.11 or newer",
        "apt-get install -y python3 python3-venv",
    )
    yield Finding("kernel", Verdict.OK, f"Linux {facts.kernel} on {facts.machine}")


def _tools(facts: Facts) -> Iterator[Finding]:
    for tool, package in PACKAGES.items():
        path = facts.tools.get(tool)
        within = path is not None and path.startswith(("/usr/", "/bin/", "/sbin/"))
        seen = facts.versions.get(tool) or path or "not found"
        yield _required(
            tool,
            within,
            seen if within or path is None else f"{path}, which nodes don't see: outside /usr",
            WHY[tool],
            f"apt-get install -y --no-install-recommends {package}",
        )


def _kernel(facts: Facts) -> Iterator[Finding]:
    lacking = [name for name in CONTROLLERS if name not in facts.controllers]
    yield _required(
        "cgroups",
        facts.cgroup is not None and not lacking,
        f"{facts.cgroup or 'not mounted'}: {' '.join(sorted(facts.controllers)) or 'none'}",
        f"a flavor's limits can't be set without {', '.join(lacking or CONTROLLERS)}",
        "boot with `systemd.unified_cgroup_hierarchy=1 cgroup_enable=memory` on the kernel's line",
    )
    yield _required(
        "user namespaces",
        not facts.user_namespaces,
        facts.user_namespaces or "can be made",
        "a node's root would be the machine's root: refused",
        "sysctl -w user.max_user_namespaces=65536",
    )
    yield _required(
        "overlayfs",
        not facts.overlay,
        facts.overlay or "can be mounted in a user namespace",
        "engines in nodes can't keep images (overlay2)",
        "a kernel from 5.11 on; then: modprobe overlay",
    )
    for kind, why in facts.links.items():
        yield _required(
            f"{kind} links",
            not why,
            why or "can be made",
            "nodes can't be connected" if kind != "vxlan" else "no overlay networks between nodes",
            f"modprobe {kind}",
        )
    yield _wished(
        "ip_forward",
        facts.ip_forward,
        "on" if facts.ip_forward else "off",
        "nodes reach nothing beyond this machine, and nothing beyond it reaches them",
        "sysctl -w net.ipv4.ip_forward=1",
    )
    match facts.bridge_filter:
        case None:
            seen = "not loaded: what nodes of a cluster send each other passes no rules"
        case False:
            seen = "off: what nodes of a cluster send each other passes no rules"
        case True:
            seen = "on: Moorage adds rules that let nodes of a cluster talk"
    yield Finding("br_netfilter", Verdict.OK, seen)


def _claims(
    facts: Facts, pool: ipaddress.IPv4Network, ports: Mapping[int, str]
) -> Iterator[Finding]:
    clashes = [
        f"{line.file} gives {line.owner} {line.first}..{line.first + line.count - 1}"
        for line in facts.subids
        if line.count > 0 and line.first <= LAST_SUBID and line.first + line.count > FIRST_SUBID
    ]
    yield _required(
        "sub-ids",
        not clashes,
        "; ".join(clashes) or f"{FIRST_SUBID}..{LAST_SUBID} are nobody's",
        "a user of this machine could own files of a tenant's node",
        f"move that range out of {FIRST_SUBID}..{LAST_SUBID} (usermod --del-subuids --add-subuids)",
    )
    crossing = [
        f"{route.network} via {route.link}"
        for route in facts.routes
        if route.network.prefixlen
        and route.network.overlaps(pool)
        and not route.link.startswith(OUR_LINKS)
    ]
    yield _required(
        "address pool",
        not crossing,
        f"{pool} is crossed by {', '.join(crossing)}" if crossing else f"{pool} is free",
        "clusters would hide those addresses from this machine",
        "choose another one: moorage up --pool 10.64.0.0/12",
    )
    for port, setting in ports.items():
        option = setting.replace("_", "-")
        taken = port in facts.ports_taken
        yield _required(
            f"port {port}",
            not taken,
            "taken by another process" if taken else "free",
            "Moorage can't listen there",
            f"see who it is: ss -ltnp 'sport = :{port}'; or choose another by "
            f"moorage up --{option} or MOORAGE_{setting.upper()}",
        )


def _room(facts: Facts) -> Iterator[Finding]:
    yield _wished(
        "memory",
        facts.memory_free >= MEMORY_MIB,
        f"{facts.memory_free} MiB of {facts.memory_total} MiB available",
        f"a first cluster takes about {MEMORY_MIB} MiB",
        "end what is not needed, or add memory",
    )
    yield _wished(
        "disk",
        facts.disk_free >= DISK_GIB,
        f"{facts.disk_free:.0f} GiB free",
        f"nodes and their images take more than {DISK_GIB:.0f} GiB soon",
        "free some, or choose another place: moorage up --state DIR",
    )


def _extras(facts: Facts) -> Iterator[Finding]:
    yield _wished(
        "docker client",
        "docker" in facts.tools,
        facts.tools.get("docker", "not found"),
        "`moorage demo` needs one; tenants use their own",
        "apt-get install -y --no-install-recommends docker.io",
    )
    yield _wished(
        "busybox",
        "busybox" in facts.tools,
        facts.tools.get("busybox", "not found"),
        "`moorage demo` makes its image of it, and nodes of Kubernetes their pods' first",
        "apt-get install -y busybox-static",
    )
    lacking = [tool for tool in OF_KUBERNETES if tool not in facts.tools]
    add = "moorage release add kubernetes … (moorage release add --help)"
    install = " ".join(
        ["apt-get install -y --no-install-recommends", *(OF_KUBERNETES[tool] for tool in lacking)]
    )
    yield _wished(
        "Kubernetes",
        bool(facts.releases) and not lacking,
        (", ".join(facts.releases) or "no release")
        + (f"; not found: {', '.join(lacking)}" if lacking else ""),
        "no cluster of coe kubernetes can be made",
        "; ".join([*([install] if lacking else []), *([] if facts.releases else [add])]),
    )
    yield _wished(
        "IPVS",
        facts.ipvs,
        "there" if facts.ipvs else "not in this kernel",
        "Swarm's routing mesh and virtual IPs time out: "
        "services need `endpoint_mode: dnsrr` and `mode: host` ports",
        "modprobe ip_vs" if facts.ipvs_module else "boot a kernel that has CONFIG_IP_VS",
    )
    yield _wished(
        "KVM",
        facts.kvm,
        "/dev/kvm" if facts.kvm else "no /dev/kvm",
        "nodes that are virtual machines would be slow; local nodes don't need it",
        "switch virtualisation on in the firmware; then: modprobe kvm_intel (or kvm_amd)",
    )
    yield _wished(
        "AppArmor",
        facts.apparmor,
        "on" if facts.apparmor else "off",
        "one fence fewer around containers; user namespaces and seccomp hold without it",
        "apt-get install -y apparmor, and boot with apparmor=1 security=apparmor",
    )
    yield _wished(
        "CAP_SYS_RESOURCE",
        facts.sys_resource,
        "held" if facts.sys_resource else "not held",
        "limits can't go above this machine's own; nodes work without it",
        "run Moorage where root holds it (it is taken away by some sandboxes)",
    )
