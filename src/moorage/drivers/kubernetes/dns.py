"""The cluster's DNS, on every master: dnsmasq, told by a script what services there are. Pure.

Names of services with an address, of headless ones and their named pods, and whatever the
node itself can resolve. There is no image of CoreDNS to be had without a registry, nor a
program of it in a release.

Pods ask the service `kube-dns`, whose endpoints are the masters' own addresses (`access.py`).
"""

from __future__ import annotations

from moorage.drivers.kubernetes.place import DOMAIN, SERVICES, Place, binary, secret
from moorage.drivers.kubernetes.service import Service

DNS, FEED = "dns", "dns-feed"
GROUP, ROLE = "moorage:dns", "system:kube-dns"
"""The role is Kubernetes' own: it may list and watch services and endpoints, and no more."""
HOSTS = secret("dns.hosts")
TTL = 5
HEADLESS = "service.kubernetes.io/headless"
"""A label that Kubernetes gives to the endpoints of services that have no address."""

SERVICE_NAMES = (
    '{{range .items}}{{$ip := .spec.clusterIP}}{{if $ip}}{{if ne $ip "None"}}'
    f"{{{{$ip}}}} {{{{.metadata.name}}}}.{{{{.metadata.namespace}}}}.svc.{DOMAIN}"
    '{{"\\n"}}{{end}}{{end}}{{end}}'
)
ENDPOINT_NAMES = (
    "{{range .items}}{{$name := .metadata.name}}{{$space := .metadata.namespace}}{{$of := .}}"
    f'{{{{range $key, $_ := .metadata.labels}}}}{{{{if eq $key "{HEADLESS}"}}}}'
    "{{range $of.subsets}}{{range .addresses}}"
    f'{{{{.ip}}}} {{{{$name}}}}.{{{{$space}}}}.svc.{DOMAIN}{{{{"\\n"}}}}'
    f"{{{{if .hostname}}}}{{{{.ip}}}} {{{{.hostname}}}}.{{{{$name}}}}.{{{{$space}}}}.svc.{DOMAIN}"
    '{{"\\n"}}{{end}}{{end}}{{end}}{{end}}{{end}}{{end}}'
)

SCRIPT = f"""#!/bin/bash
# Writes {HOSTS} anew whenever a service or its endpoints change, and has dnsmasq read it.
set -u
cd /run/moorage
ask() {{ {binary("kubectl")} --kubeconfig={secret("dns.conf")} get -A "$@"; }}
write() {{
  ask services -o go-template="$(cat {secret("dns.services")})" > {HOSTS}.draft &&
    ask endpoints -o go-template="$(cat {secret("dns.endpoints")})" >> {HOSTS}.draft || return
  sort -u {HOSTS}.draft > {HOSTS}.new
  ! cmp -s {HOSTS}.new {HOSTS} || return 0
  mv -f {HOSTS}.new {HOSTS}
  sv hup {SERVICES}/{DNS} >/dev/null
}}
watch() {{  # a line for each change, and one for each that there is at the beginning
  while :; do
    curl -sN --cacert {secret("ca.crt")} --cert {secret("dns.crt")} --key {secret("dns.key")} \\
      "https://127.0.0.1:6443/api/v1/$1?watch=1&resourceVersion=0&timeoutSeconds=300" |
      sed -u 's/.*/x/'
    sleep 1
  done
}}
{{ watch services & watch endpoints; }} | while read -r _; do
  while read -r -t 0.1 _; do :; done
  until write; do sleep 1; done
done
"""


def server(place: Place) -> Service:
    """dnsmasq 2.80 and later."""
    argv = (
        "/usr/sbin/dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--log-facility=-",
        "--user=root",
        "--group=root",
        "--bind-interfaces",
        f"--listen-address={place.address}",
        "--no-hosts",
        f"--addn-hosts={HOSTS}",
        "--resolv-file=/etc/resolv.conf",
        f"--local=/{DOMAIN}/",
        f"--local-ttl={TTL}",
        f"--neg-ttl={TTL}",
        "--cache-size=1000",
    )
    return Service(DNS, argv, f"[ -e {HOSTS} ] || : > {HOSTS}")


def feed() -> Service:
    return Service(FEED, ("/bin/bash", secret("dns-feed")))


def files() -> dict[str, bytes]:
    return {
        secret("dns-feed"): SCRIPT.encode(),
        secret("dns.services"): SERVICE_NAMES.encode(),
        secret("dns.endpoints"): ENDPOINT_NAMES.encode(),
    }
