"""The cluster's DNS by PowerDNS Recursor, on every master, with zones of what there is. Pure.

It answers as https://github.com/kubernetes/dns/blob/master/docs/specification.md has it, but
for names of pods made of their addresses (which that calls deprecated), and asks whom the
node itself asks about all else. The zones are written by `zones.py`.
"""

from __future__ import annotations

from ipaddress import IPv4Network

from moorage.drivers.kubernetes import zones
from moorage.drivers.kubernetes.place import DOMAIN, Place, secret
from moorage.drivers.kubernetes.service import Service

DIRECTORY = zones.DIRECTORY
CONFIG = secret("recursor.conf")
FORWARD, CONTROL = f"{DIRECTORY}/forward", f"{DIRECTORY}/control"
USER = "nobody"
"""It answers whoever asks, beside the cluster's keys: it can't read them, and writes nowhere but
where its socket is."""
RELOAD = f"rec_control --config-dir={DIRECTORY} --socket-dir={CONTROL} reload-zones"
"""It says `ok`, or something else; its exit code is 0 where it could ask at all."""


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
        "socket-dir": CONTROL,
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
mkdir -p {zones.ZONES} {CONTROL}
chown {USER} {CONTROL}
cat {CONFIG} > {DIRECTORY}/recursor.conf
busybox awk '$1 == "nameserver" && $2 ~ /^[0-9.]+$/ {{ all = all sep $2; sep = ";" }}
  END {{ if (all) print "+.=" all; else print "no name server to ask" > "/dev/stderr" }}' \\
  /etc/resolv.conf > {FORWARD}
[ -e {zones.path(DOMAIN)} ] || {zones.COMPOSE} {zones.ZONES} </dev/null
"""
