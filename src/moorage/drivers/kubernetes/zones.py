"""The zones of a cluster's DNS, and the script that writes them whenever something changes. Pure.

The way of a change: the API's watch says that there is one; kubectl tells all services and
endpoints as *facts*, a line each; awk (busybox's) makes zones of them (RFC 1035's master files);
if they are other ones, the resolver reads them anew. Most changes of endpoints are none of DNS's.

    service NAMESPACE NAME TYPE ADDRESS EXTERNAL-NAME       (- where there is none, or not meant)
    port NAMESPACE NAME PROTOCOL PORT-NAME NUMBER           of a service
    pod NAMESPACE SERVICE ADDRESS HOSTNAME                  of a service's endpoints
    pod-port NAMESPACE SERVICE ADDRESS HOSTNAME PROTOCOL PORT-NAME NUMBER

What must stay true: facts are a tenant's words. Nothing is printed that Kubernetes has not
checked (an `externalName` is, for services of that type only), and what no zone can hold is left
out, for a zone that can't be read is none. The zones in use are ones that were read.
"""

from __future__ import annotations

from ipaddress import IPv4Network

from moorage.drivers.kubernetes.addresses import Ranges
from moorage.drivers.kubernetes.place import DNS_TTL, DOMAIN, binary, secret
from moorage.drivers.kubernetes.service import Service

FEED = "dns-feed"
DIRECTORY = "/run/dns"
"""Where the resolver reads, which has no right to the files that are laid."""
ZONES = f"{DIRECTORY}/zones"

SERVICES_FACTS = (
    "{{range .items}}{{$of := .metadata}}"
    "service {{$of.namespace}} {{$of.name}} {{.spec.type}} "
    '{{or .spec.clusterIP "-"}} '
    '{{if eq .spec.type "ExternalName"}}{{.spec.externalName}}{{else}}-{{end}}{{"\\n"}}'
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
function line(zone, text) { print text > (into "/" zone) }
function fits(name,    part, n, i) {
    n = split(name, part, ".")
    for (i = 1; i <= n; i++) if (length(part[i]) > 63) return 0
    return length(name) <= 253
}
function put(zone, owner, kind, data,    target) {
    target = data
    sub(/.* /, "", target)
    if (fits(owner) && (kind ~ /^A/ || fits(target))) line(zone, owner " " kind " " data)
}
function name(of, space) { return of "." space ".svc." domain "." }
function address(owner, ip) { put(domain, owner, ip ~ /:/ ? "AAAA" : "A", ip) }
function host(ip, given) { if (given != "-") return given; gsub(/[.:]/, "-", ip); return ip }
function port(of, space, proto, called, number, target,    owner) {
    if (called == "-") return
    owner = "_" called "._" tolower(proto) "." name(of, space)
    put(domain, owner, "SRV", "0 100 " number " " target)
}
function pointer(ip, to, among,    part, n, zone) {
    if (split(ip, part, ".") != 4) return
    zone = part[1] ".in-addr.arpa"
    for (n = 2; n <= 4; n++) {
        if (index(" " among " ", " " zone " ")) {
            put(zone, part[4] "." part[3] "." part[2] "." part[1] ".in-addr.arpa.", "PTR", to)
            return
        }
        zone = part[n] "." zone
    }
}
BEGIN {
    split(domain " " services " " pods, all, " ")
    for (n in all) {
        line(all[n], "$TTL " ttl "\\n$ORIGIN " all[n] ".")
        line(all[n], "@ SOA ns.dns." domain ". hostmaster." domain ". 1 7200 1800 86400 " ttl)
        line(all[n], "@ NS ns.dns." domain ".")
    }
    line(domain, "ns.dns A " resolver "\\ndns-version TXT \\"1.1.0\\"")
}
/[^A-Za-z0-9 .:_-]/ { next }
$1 == "service" && NF == 6 && $4 == "ExternalName" {
    sub(/\\.$/, "", $6)
    put(domain, name($3, $2), "CNAME", $6 ".")
    next
}
$1 == "service" && NF == 6 && $5 == "None" { headless[$2, $3]; next }
$1 == "service" && NF == 6 && $5 != "-" {
    addressed[$2, $3]
    address(name($3, $2), $5)
    pointer($5, name($3, $2), services)
}
$1 == "port" && NF == 6 && ($2, $3) in addressed { port($3, $2, $4, $5, $6, name($3, $2)) }
$1 == "pod" && NF == 5 && ($2, $3) in headless {
    at = host($4, $5) "." name($3, $2)
    address(name($3, $2), $4)
    address(at, $4)
    pointer($4, at, pods)
}
$1 == "pod-port" && NF == 8 && ($2, $3) in headless {
    port($3, $2, $6, $7, $8, host($4, $5) "." name($3, $2))
}
"""

COMPOSE = f"sh {secret('dns-compose')}"
"""Facts on its input become the zones in the directory that it is told."""


def path(zone: str) -> str:
    """The master file of a zone."""
    return f"{ZONES}/{zone}"


def all_zones(ranges: Ranges) -> list[str]:
    """The cluster's domain, and those in which its addresses are looked up."""
    reverse = {zone for network in (ranges.services, ranges.pods) for zone in _reverse(network)}
    return [DOMAIN, *sorted(reverse)]


def feed(reload: str) -> Service:
    """`reload`: the command by which the resolver reads its zones."""
    return Service(FEED, ("/bin/bash", secret("dns-feed"), reload))


def files(ranges: Ranges) -> dict[str, bytes]:
    given = {"domain": DOMAIN, "resolver": ranges.dns, "ttl": str(DNS_TTL)}
    given |= {"services": " ".join(_reverse(ranges.services))}
    given |= {"pods": " ".join(_reverse(ranges.pods))}
    words = " ".join(f"-v '{key}={value}'" for key, value in given.items())
    compose = f"exec busybox awk {words} -v into=$1 -f {secret('dns.awk')}\n"
    return {
        secret("dns-feed"): SCRIPT.encode(),
        secret("dns-compose"): compose.encode(),
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

# A feed that is ended leaves parts of itself, which would write here too.
for process in /proc/[0-9]*; do
  [ "${{process#/proc/}}" != $$ ] || continue
  [ "$(readlink "$process/ns/mnt")" = "$(readlink /proc/self/ns/mnt)" ] || continue
  case $(tr '\\0' ' ' < "$process/cmdline") in
    "/bin/bash {secret("dns-feed")}"*) kill -9 "${{process#/proc/}}" ;;
  esac
done 2>/dev/null

ask() {{ {binary("kubectl")} --kubeconfig={secret("dns.conf")} get -A "$@"; }}
facts() {{
  ask services -o go-template-file={secret("dns.services")} &&
    ask endpoints -o go-template-file={secret("dns.endpoints")}
}}
write() {{
  rm -rf {DIRECTORY}/draft {DIRECTORY}/former
  mkdir {DIRECTORY}/draft && facts | {COMPOSE} {DIRECTORY}/draft || return
  [ -n "$unread" ] || ! diff -rq {DIRECTORY}/draft {ZONES} >/dev/null || return 0
  unread=yes
  cp -r {ZONES} {DIRECTORY}/former && mv -f {DIRECTORY}/draft/* {ZONES}/ || return
  said=$($reload 2>&1)
  if [ "$said" = ok ]; then
    unread=
  else
    echo "$said" >&2
    mv -f {DIRECTORY}/former/* {ZONES}/
    return 1
  fi
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
  end=$((SECONDS + 2))  # however many more there are
  while [ $SECONDS -lt $end ] && read -r -t 0.1 _; do :; done
  delay=1
  until write; do
    sleep $delay
    delay=$((delay < 30 ? delay * 2 : 30))
  done
done
"""
