"""The zones of a cluster's DNS, written by busybox's awk, and what the resolver is told."""

from __future__ import annotations

import subprocess
from pathlib import Path

from inline_snapshot import snapshot

from moorage.drivers.kubernetes import coredns, dns, recursor, zones
from moorage.drivers.kubernetes.addresses import ranges
from moorage.drivers.kubernetes.place import Given, place_of, secret
from tests.unit.drivers.kube_scene import cluster, place

FACTS = """\
service default api ClusterIP 10.254.0.1 -
port default api TCP https 443
service shop web ClusterIP 10.254.3.4 -
port shop web TCP - 80
service shop db ClusterIP None -
port shop db TCP sql 5432
service shop mail ExternalName - mail.example.com.
service shop old ExternalName - 192.0.2.7
service shop six ClusterIP fd00::7 -
pod default api 10.128.0.2 -
pod-port default api 10.128.0.2 - TCP https 6443
pod shop db 10.100.3.2 db-0
pod-port shop db 10.100.3.2 db-0 TCP sql 5432
pod shop db 10.100.4.2 -
pod-port shop db 10.100.4.2 - TCP sql 5432
pod shop db 192.0.2.9 outside
"""


def composed(facts: str, directory: Path, labels: dict[str, str] | None = None) -> dict[str, str]:
    """The zones of these facts, without the lines that all of them begin with."""
    files = zones.files(ranges(labels or {}))
    (directory / "awk").write_bytes(files[secret("dns.awk")])
    script = files[secret("dns-compose")].decode().replace(secret("dns.awk"), f"{directory}/awk")
    into = directory / "zones"
    into.mkdir()
    subprocess.run(["sh", "-c", script, "sh", str(into)], input=facts.encode(), check=True)
    made = {path.name: path.read_text() for path in into.iterdir()}
    for name, text in made.items():
        assert text.startswith(f"$TTL 5\n$ORIGIN {name}.\n@ SOA ns.dns.cluster.local. ")
    return {name: text.split("@ NS ns.dns.cluster.local.\n")[1] for name, text in made.items()}


def test_services_become_names(tmp_path: Path) -> None:
    assert composed(FACTS, tmp_path) == snapshot(
        {
            "cluster.local": """\
ns.dns A 10.254.0.10
dns-version TXT "1.1.0"
api.default.svc.cluster.local. A 10.254.0.1
_https._tcp.api.default.svc.cluster.local. SRV 0 100 443 api.default.svc.cluster.local.
web.shop.svc.cluster.local. A 10.254.3.4
mail.shop.svc.cluster.local. CNAME mail.example.com.
old.shop.svc.cluster.local. CNAME 192.0.2.7.
six.shop.svc.cluster.local. AAAA fd00::7
db.shop.svc.cluster.local. A 10.100.3.2
db-0.db.shop.svc.cluster.local. A 10.100.3.2
_sql._tcp.db.shop.svc.cluster.local. SRV 0 100 5432 db-0.db.shop.svc.cluster.local.
db.shop.svc.cluster.local. A 10.100.4.2
10-100-4-2.db.shop.svc.cluster.local. A 10.100.4.2
_sql._tcp.db.shop.svc.cluster.local. SRV 0 100 5432 10-100-4-2.db.shop.svc.cluster.local.
db.shop.svc.cluster.local. A 192.0.2.9
outside.db.shop.svc.cluster.local. A 192.0.2.9
""",
            "100.10.in-addr.arpa": """\
2.3.100.10.in-addr.arpa. PTR db-0.db.shop.svc.cluster.local.
2.4.100.10.in-addr.arpa. PTR 10-100-4-2.db.shop.svc.cluster.local.
""",
            "254.10.in-addr.arpa": """\
1.0.254.10.in-addr.arpa. PTR api.default.svc.cluster.local.
4.3.254.10.in-addr.arpa. PTR web.shop.svc.cluster.local.
""",
        }
    )


LONG = "a" * 64
HOSTILE = f"""\
service red web ClusterIP 10.254.3.4 -
service red {"x" * 63} ClusterIP 10.254.3.5 -
port red {"x" * 63} TCP {"p" * 63} 80
service red long ExternalName - {LONG}.example.com
service red longer ExternalName - {".".join(["abcdefgh"] * 29)}
service red odd ClusterIP 6.6.6.6 - more
service red odd ClusterIP 6.6.6.6
service red $(id) ClusterIP 6.6.6.6 -
service red "odd ClusterIP 6.6.6.6 -
port red web TCP http;id 80
service red mine ClusterIP None -
pod red mine 10.254.3.4 stolen
pod red mine 10.100.3.3 {"h" * 63}
pod-port red mine 10.100.3.3 {"h" * 63} TCP {"p" * 63} 80
"""


def test_what_no_zone_can_hold_is_left_out(tmp_path: Path) -> None:
    made = composed(HOSTILE, tmp_path)
    names = made["cluster.local"].splitlines()[2:]
    assert [line.replace("x" * 63, "X").replace("h" * 63, "H") for line in names] == [
        "web.red.svc.cluster.local. A 10.254.3.4",
        "X.red.svc.cluster.local. A 10.254.3.5",
        "mine.red.svc.cluster.local. A 10.254.3.4",
        "stolen.mine.red.svc.cluster.local. A 10.254.3.4",
        "mine.red.svc.cluster.local. A 10.100.3.3",
        "H.mine.red.svc.cluster.local. A 10.100.3.3",
    ]
    assert "stolen" not in made["254.10.in-addr.arpa"], "a service's address is the service's"


def test_before_anything_is_known_there_are_zones(tmp_path: Path) -> None:
    assert set(composed("", tmp_path).values()) == {
        "",
        'ns.dns A 10.254.0.10\ndns-version TXT "1.1.0"\n',
    }


def test_addresses_are_looked_up_in_no_more_than_the_cluster_s_ranges(tmp_path: Path) -> None:
    labels = {"service_cluster_ip_range": "10.96.0.0/22", "flannel_network_cidr": "172.16.0.0/12"}
    of = zones.all_zones(ranges(labels))
    assert len(of) == 1 + 4 + 16
    assert of[:3] == ["cluster.local", "0.96.10.in-addr.arpa", "1.96.10.in-addr.arpa"]
    assert of[-1] == "31.172.in-addr.arpa"
    made = composed("service a b ClusterIP 10.96.3.7 -\n", tmp_path, labels)
    assert made["3.96.10.in-addr.arpa"] == "7.3.96.10.in-addr.arpa. PTR b.a.svc.cluster.local.\n"


def test_what_the_resolver_is_told() -> None:
    assert recursor.config(place("master-0")) == snapshot("""\
local-address=10.128.0.2
local-port=53
allow-from=127.0.0.0/8,10.128.0.0/24,10.100.0.0/16
auth-zones=cluster.local=/run/dns/zones/cluster.local,\
100.10.in-addr.arpa=/run/dns/zones/100.10.in-addr.arpa,\
254.10.in-addr.arpa=/run/dns/zones/254.10.in-addr.arpa
forward-zones-file=/run/dns/forward
serve-rfc1918=no
hint-file=no
security-poll-suffix=
dnssec=off
version-string=
daemon=no
write-pid=no
disable-syslog=yes
log-timestamp=no
loglevel=3
setuid=nobody
socket-dir=/run/dns/control
threads=1
max-mthreads=512
max-cache-entries=20000
max-packetcache-entries=20000
""")


def test_a_release_with_coredns_has_its_names_by_it() -> None:
    given = Given(with_coredns=frozenset({"v1.20.2"}))
    own, other = (
        place_of(cluster(1, 0), {"master-0": "10.128.0.2"}, "master-0", version, given=given)
        for version in ("v1.20.2", "v1.21.0")
    )
    assert [service.name for service in dns.services(own)] == ["dns"]
    assert [service.name for service in dns.services(other)] == ["dns", "dns-feed"]
    assert " ".join(dns.services(own)[0].argv) == snapshot(
        "/opt/kubernetes/coredns -conf /run/moorage/kubernetes/Corefile"
    )
    assert {Path(path).name for path in dns.files(own)} == {"Corefile"}
    assert coredns.config(own) == snapshot("""\
.:53 {
    bind 10.128.0.2
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig /run/moorage/kubernetes/dns.conf self
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }
    forward . /etc/resolv.conf
    cache 30
    loadbalance
}
""")
