"""The zones of a cluster's DNS, and the script that writes them whenever something changes. Pure.

The way of a change: the API's watch says that there is one; kubectl tells all services and
endpoints as *facts*, a line each; awk (busybox's) makes zones of them (RFC 1035's master files);
if they are other ones, the resolver reads them anew. Most changes of endpoints are none of DNS's.

    service NAMESPACE NAME TYPE ADDRESS EXTERNAL-NAME       (- where there is none)
    port NAMESPACE NAME PROTOCOL PORT-NAME NUMBER           of a service
    pod NAMESPACE SERVICE ADDRESS HOSTNAME                  of a service's endpoints
    pod-port NAMESPACE SERVICE ADDRESS HOSTNAME PROTOCOL PORT-NAME NUMBER
"""

from __future__ import annotations

from ipaddress import IPv4Network

from moorage.drivers.kubernetes.addresses import Ranges
from moorage.drivers.kubernetes.place import DOMAIN, binary, secret
from moorage.drivers.kubernetes.service import Service

FEED = "dns-feed"
DIRECTORY = "/run/dns"
"""Where the resolver reads, which has no right to the files that are laid."""
TTL = 5
"""Seconds, as CoreDNS has it: what pods may go on believing after a change."""

SERVICES_FACTS = (
    "{{range .items}}{{$of := .metadata}}"
    "service {{$of.namespace}} {{$of.name}} {{.spec.type}} "
    '{{or .spec.clusterIP "-"}} {{or .spec.externalName "-"}}{{"\\n"}}'
    "{{range .spec.ports}}"
    'port {{$of.namespace}} {{$of.name}} {{.protocol}} {{or .name "-"}} {{.port}}{{"\\n"}}'
    "{{end}}{{end}}"
)
_POD = '{{$of.namespace}} {{$of.name}} {{$pod.ip}} {{or $pod.hostname "-"}}'
ENDPOINTS_FACTS = (
    "{{range .items}}{{$of := .metadata}}{{range .subsets}}{{$ports := .ports}}"
    "{{range $pod := .addresses}}"
    f'pod {_POD}{{{{"\\n"}}}}'
    "{{range $ports}}"
    f'pod-port {_POD} {{{{.protocol}}}} {{{{or .name "-"}}}} {{{{.port}}}}{{{{"\\n"}}}}'
    "{{end}}{{end}}{{end}}{{end}}"
)

AWK = """
function put(zone, line) { print line > (into "/" zone ".new") }
function name(of, space) { return of "." space ".svc." domain "." }
function kind(ip) { return ip ~ /:/ ? "AAAA" : "A" }
function host(ip, given) { if (given != "-") return given; gsub(/[.:]/, "-", ip); return ip }
function service(of, space, proto, port, number, target) {
    if (port == "-") return
    proto = tolower(proto)
    put(domain, "_" port "._" proto "." name(of, space) " SRV 0 100 " number " " target)
}
function pointer(ip, to,    part, n, zone) {
    if (split(ip, part, ".") != 4) return
    zone = part[1] ".in-addr.arpa"
    for (n = 2; n <= 4; n++) {
        if (zone in reverse) {
            put(zone, part[4] "." part[3] "." part[2] "." part[1] ".in-addr.arpa. PTR " to)
            return
        }
        zone = part[n] "." zone
    }
}
BEGIN {
    split(zones, all, " ")
    for (n in all) {
        zone = all[n]
        if (zone != domain) reverse[zone]
        put(zone, "$TTL " ttl "\\n$ORIGIN " zone ".")
        put(zone, "@ SOA ns.dns." domain ". hostmaster." domain ". 1 7200 1800 86400 " ttl)
        put(zone, "@ NS ns.dns." domain ".")
    }
    put(domain, "ns.dns A " resolver "\\ndns-version TXT \\"1.1.0\\"")
}
$1 == "service" && $4 == "ExternalName" {
    sub(/\\.$/, "", $6)
    put(domain, name($3, $2) " CNAME " $6 ".")
    next
}
$1 == "service" && $5 == "None" { headless[$2, $3]; next }
$1 == "service" && $5 != "-" {
    addressed[$2, $3]
    put(domain, name($3, $2) " " kind($5) " " $5)
    pointer($5, name($3, $2))
}
$1 == "port" && ($2, $3) in addressed { service($3, $2, $4, $5, $6, name($3, $2)) }
$1 == "pod" && ($2, $3) in headless {
    at = host($4, $5) "." name($3, $2)
    put(domain, name($3, $2) " " kind($4) " " $4)
    put(domain, at " " kind($4) " " $4)
    pointer($4, at)
}
$1 == "pod-port" && ($2, $3) in headless {
    service($3, $2, $6, $7, $8, host($4, $5) "." name($3, $2))
}
"""

COMPOSE = f"sh {secret('dns-compose')}"
"""Facts on its input become zones, each beside the one that is in use."""
TAKE = f"for each in {DIRECTORY}/*.new; do mv -f $each ${{each%.new}}; done"


def path(zone: str) -> str:
    """The master file of a zone."""
    return f"{DIRECTORY}/{zone}"


def all_zones(ranges: Ranges) -> list[str]:
    """The cluster's domain, and those in which its addresses are looked up."""
    reverse = {zone for network in (ranges.services, ranges.pods) for zone in _reverse(network)}
    return [DOMAIN, *sorted(reverse)]


def feed(reload: str) -> Service:
    """`reload`: the command by which the resolver reads its zones."""
    return Service(FEED, ("/bin/bash", secret("dns-feed"), reload))


def files(ranges: Ranges) -> dict[str, bytes]:
    given = {"zones": " ".join(all_zones(ranges)), "domain": DOMAIN, "resolver": ranges.dns}
    given |= {"ttl": str(TTL), "into": DIRECTORY}
    words = " ".join(f"-v '{key}={value}'" for key, value in given.items())
    return {
        secret("dns-feed"): SCRIPT.encode(),
        secret("dns-compose"): f"exec busybox awk {words} -f {secret('dns.awk')}\n".encode(),
        secret("dns.awk"): AWK.encode(),
        secret("dns.services"): SERVICES_FACTS.encode(),
        secret("dns.endpoints"): ENDPOINTS_FACTS.encode(),
    }


def _reverse(network: IPv4Network) -> list[str]:
    """Zones are cut at whole octets: a network that is not is several of them."""
    octets = -(-network.prefixlen // 8)
    return [
        ".".join([*reversed(str(each.network_address).split(".")[:octets]), "in-addr.arpa"])
        for each in network.subnets(new_prefix=octets * 8)
    ]


SCRIPT = f"""#!/bin/bash
# Writes the zones anew whenever a service or its endpoints change, and has them read: $1.
set -u -o pipefail
umask 022
reload=$1
unread=yes  # what the resolver has read by now is not known
ask() {{ {binary("kubectl")} --kubeconfig={secret("dns.conf")} get -A "$@"; }}
write() {{
  {{
    ask services -o go-template-file={secret("dns.services")} &&
      ask endpoints -o go-template-file={secret("dns.endpoints")}
  }} | {COMPOSE} || return
  for each in {DIRECTORY}/*.new; do
    cmp -s $each ${{each%.new}} || unread=yes
    mv -f $each ${{each%.new}}
  done
  [ -z "$unread" ] || {{ $reload >&2 && unread=; }}
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
