"""The cluster's DNS by CoreDNS, where the release has one: it is Kubernetes' own choice. Pure.

As upstream's deployment of it has it
(https://github.com/coredns/deployment/blob/master/kubernetes/coredns.yaml.sed), but as a program
of a master, and without what a pod needs: probes, and a look out for loops.
"""

from __future__ import annotations

from moorage.drivers.kubernetes.place import DNS_TTL, DOMAIN, Place, binary, secret
from moorage.drivers.kubernetes.service import Service
from moorage.releases import COREDNS

COREFILE = secret("Corefile")


def server(name: str) -> Service:
    return Service(name, (binary(COREDNS), "-conf", COREFILE), reads=(COREFILE,))


def config(place: Place) -> str:
    return f"""\
.:53 {{
    bind {place.address}
    errors
    kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {secret("dns.conf")} self
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl {DNS_TTL}
    }}
    forward . /etc/resolv.conf
    cache 30
    loadbalance
}}
"""


def files(place: Place) -> dict[str, bytes]:
    return {COREFILE: config(place).encode()}
