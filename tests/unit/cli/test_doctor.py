"""The doctor's verdicts, each for a machine that differs from a good one in one thing."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from moorage.cli import facts as gathering
from moorage.cli.doctor import OF_KUBERNETES, PACKAGES, Verdict, examine, missing
from moorage.cli.facts import Facts, Route, SubIds, gather, parse_routes, parse_subids
from moorage.cli.failure import Code

POOL = ipaddress.IPv4Network("10.128.0.0/12")
PORTS = {9511: "port", 5000: "keystone_port", 9512: "metrics_port"}
GOOD = Facts(
    tools={tool: f"/usr/bin/{tool}" for tool in (*PACKAGES, *OF_KUBERNETES, "docker", "busybox")},
    controllers=frozenset({"cpu", "memory", "pids"}),
    links={"veth": "", "bridge": "", "vxlan": ""},
    ipvs=True,
    kvm=True,
    apparmor=True,
    sys_resource=True,
    ip_forward=True,
    bridge_filter=True,
    memory_total=8192,
    memory_free=4096,
    disk_free=50.0,
    releases=("v1.20.2",),
)


def net(text: str) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(text)


def test_a_good_machine_has_nothing_to_mend() -> None:
    findings = examine(GOOD, POOL, PORTS)
    assert {finding.verdict for finding in findings} == {Verdict.OK}


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("root", replace(GOOD, euid=1000)),
        ("python", replace(GOOD, python=(3, 10))),
        *(
            (tool, replace(GOOD, tools={k: v for k, v in GOOD.tools.items() if k != tool}))
            for tool in PACKAGES
        ),
        ("runc", replace(GOOD, tools=GOOD.tools | {"runc": "/opt/bin/runc"})),
        ("cgroups", replace(GOOD, cgroup=None)),
        ("cgroups", replace(GOOD, controllers=frozenset({"cpu", "pids"}))),
        ("user namespaces", replace(GOOD, user_namespaces="No space left on device")),
        ("overlayfs", replace(GOOD, overlay="permission denied")),
        ("veth links", replace(GOOD, links=GOOD.links | {"veth": "Unknown device type."})),
        ("vxlan links", replace(GOOD, links=GOOD.links | {"vxlan": "Unknown device type."})),
        ("sub-ids", replace(GOOD, subids=(SubIds("/etc/subuid", "bob", 1879048191, 2),))),
        ("sub-ids", replace(GOOD, subids=(SubIds("/etc/subgid", "bob", 2147418111, 1),))),
        ("address pool", replace(GOOD, routes=(Route(net("10.130.0.0/24"), "tun0"),))),
        ("address pool", replace(GOOD, routes=(Route(net("10.0.0.0/8"), "tun0"),))),
        ("port 9511", replace(GOOD, ports_taken=frozenset({9511}))),
    ],
)
def test_what_moorage_can_not_do_without(name: str, facts: Facts) -> None:
    [finding] = missing(examine(facts, POOL, PORTS))
    assert finding.name == name
    assert finding.cost
    assert finding.mend


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("ip_forward", replace(GOOD, ip_forward=False)),
        ("memory", replace(GOOD, memory_free=1000)),
        ("disk", replace(GOOD, disk_free=1.0)),
        (
            "docker client",
            replace(GOOD, tools={k: v for k, v in GOOD.tools.items() if k != "docker"}),
        ),
        ("Kubernetes", replace(GOOD, releases=())),
        *(
            ("Kubernetes", replace(GOOD, tools={k: v for k, v in GOOD.tools.items() if k != tool}))
            for tool in OF_KUBERNETES
        ),
        ("IPVS", replace(GOOD, ipvs=False)),
        ("KVM", replace(GOOD, kvm=False)),
        ("AppArmor", replace(GOOD, apparmor=False)),
        ("CAP_SYS_RESOURCE", replace(GOOD, sys_resource=False)),
    ],
)
def test_what_has_its_price(name: str, facts: Facts) -> None:
    findings = examine(facts, POOL, PORTS)
    [finding] = [finding for finding in findings if finding.verdict is not Verdict.OK]
    assert (finding.name, finding.verdict) == (name, Verdict.LIMITED)
    assert finding.cost
    assert finding.mend


@pytest.mark.parametrize(("port", "name"), PORTS.items())
def test_a_port_that_is_taken_names_what_chooses_another(port: int, name: str) -> None:
    [finding] = missing(examine(replace(GOOD, ports_taken=frozenset({port})), POOL, PORTS))
    assert f"moorage up --{name.replace('_', '-')} or MOORAGE_{name.upper()}" in finding.mend


@pytest.mark.parametrize(
    "facts",
    [
        replace(GOOD, subids=(SubIds("/etc/subuid", "bob", 100000, 65536),)),
        replace(GOOD, subids=(SubIds("/etc/subuid", "bob", 1879048192, 0),)),
        replace(GOOD, subids=(SubIds("/etc/subuid", "bob", 2147418112, 65536),)),
        replace(GOOD, routes=(Route(net("0.0.0.0/0"), "eth0"),)),
        replace(GOOD, routes=(Route(net("10.64.0.0/12"), "eth0"),)),
        replace(GOOD, cgroup="hybrid"),
        replace(GOOD, bridge_filter=None),
        replace(GOOD, ports_taken=frozenset({80})),
    ],
)
def test_what_does_not_matter(facts: Facts) -> None:
    assert {finding.verdict for finding in examine(facts, POOL, PORTS)} == {Verdict.OK}


def test_what_kubernetes_lacks_is_installed_by_one_line() -> None:
    tools = {tool: path for tool, path in GOOD.tools.items() if tool not in {"etcd", "bridge"}}
    findings = examine(replace(GOOD, tools=tools, releases=()), POOL, PORTS)
    [finding] = [finding for finding in findings if finding.name == "Kubernetes"]
    assert finding.seen == "no release; not found: etcd, bridge"
    assert finding.mend == (
        "apt-get install -y --no-install-recommends etcd-server containernetworking-plugins; "
        "moorage release add kubernetes … (moorage release add --help)"
    )


def test_a_module_that_waits_is_loaded_by_one_line() -> None:
    findings = examine(replace(GOOD, ipvs=False, ipvs_module=True), POOL, PORTS)
    assert [f.mend for f in findings if f.name == "IPVS"] == ["modprobe ip_vs"]


def test_routes_are_read_as_the_kernel_writes_them() -> None:
    text = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    assert parse_routes(text) == [
        Route(net("0.0.0.0/0"), "eth0"),
        Route(net("192.0.2.0/24"), "eth0"),
    ]


def test_subids_are_read_and_nonsense_is_passed_over() -> None:
    assert parse_subids("f", "bob:1:2\n\n# no\nx:y:z\n") == [SubIds("f", "bob", 1, 2)]


def test_gathering_changes_nothing_and_ends(tmp_path: Path) -> None:
    seen = gather(tmp_path / "not" / "there", "127.0.0.1", [])
    assert seen.memory_total > 0
    assert seen.disk_free > 0
    assert seen.kernel
    assert not any(tmp_path.iterdir())


def test_the_command_ends_with_1_where_something_is_missing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moorage: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(gathering, "gather", lambda *_: replace(GOOD, euid=1000))
    assert moorage("doctor", "--state", str(tmp_path)) == Code.FAILED
    assert "Not ready: root." in capsys.readouterr().out
    monkeypatch.setattr(gathering, "gather", lambda *_: replace(GOOD, ipvs=False))
    assert moorage("doctor", "--state", str(tmp_path), "-o", "json") == Code.OK
    said = json.loads(capsys.readouterr().out)
    assert [f["name"] for f in said if f["verdict"] == "limited"] == ["IPVS"]
