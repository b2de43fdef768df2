"""The cluster's DNS by PowerDNS Recursor, on every master, with zones of what there is. Pure.

It answers as https://github.com/kubernetes/dns/blob/master/docs/specification.md has it, but
for names of pods made of their addresses (which that calls deprecated), and asks whom the
node itself asks about all else. The zones are written by
`zones.py`.
"""

from __future__ import annotations

from ipaddress import IPv4Network

from moorage.drivers.kubernetes import zones
from moorage.drivers.kubernetes.place import DOMAIN, Place, secret
from moorage.drivers.kubernetes.service import Service

DIRECTORY = zones.DIRECTORY
CONFIG = secret("recursor.conf")
FORWARD = f"{DIRECTORY}/forward"
USER = "nobody"
"""It answers whoever asks, beside the cluster's keys: it has no right to read them."""
RELOAD = f"rec_control --config-dir={DIRECTORY} --socket-dir={DIRECTORY} reload-zones"


def config(place: Place) -> str:
    """As 4.8 reads it (https://doc.powerdns.com/recursor/settings.html)."""
    network = IPv4Network((place.address, 24), strict=False)
    of = zones.all_zones(place.ranges)
    settings = {
        "local-address": place.address,
        "local-port": 53,
        "allow-from": f"127.0.0.0/8,{network},{place.ranges.pods}",
        "auth-zones": ",".join(f"{zone}={zones.path(zone)}" for zone in of),
        "forward-zones-file": FORWARD,
        "serve-rfc1918": "no",
        "hint-file": "no",
        "security-poll-suffix": "",
        "dnssec": "off",
        "version-string": "",
        "daemon": "no",
        "write-pid": "no",
        "disable-syslog": "yes",
        "log-timestamp": "no",
        "loglevel": 3,
        "setuid": USER,
        "socket-dir": DIRECTORY,
        "threads": 1,
        "max-mthreads": 512,
        "max-cache-entries": 20_000,
        "max-packetcache-entries": 20_000,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def server(name: str) -> Service:
    argv = ("/usr/sbin/pdns_recursor", f"--config-dir={DIRECTORY}")
    return Service(name, argv, _BEFORE, reads=(CONFIG,))


def files(place: Place) -> dict[str, bytes]:
    return {CONFIG: config(place).encode(), **zones.files(place.ranges)}


_BEFORE = f"""
mkdir -p {DIRECTORY}
chown {USER} {DIRECTORY}
cat {CONFIG} > {DIRECTORY}/recursor.conf
asked=$(sed -n 's/^nameserver  *\\([0-9.]*\\) *$/\\1/p' /etc/resolv.conf | paste -sd ';')
echo "${{asked:+"+.=$asked"}}" > {FORWARD}
[ -e {zones.path(DOMAIN)} ] || {{
  {zones.COMPOSE} </dev/null
  {zones.TAKE}
}}
"""
