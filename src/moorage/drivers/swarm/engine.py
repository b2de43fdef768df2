"""A node's engine: its configuration, and the script that starts it there.

What must stay true:

- The engine asks every TCP client for a certificate of the cluster's CA, from its first
  moment on. (Without `tlsverify` it would also wait 15 seconds before it starts.)
- Everything comes in one call of the host: files as a tar archive on stdin, then the
  script. To enter a node costs as much as a request to its engine costs ten times.
- The script may be run at any time, and killed at any point. It ends an engine that
  runs, and believes no pid file: those that a power cut left name other processes.
- Files of the node are its tenant's. They are written, and never read.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

from moorage.clients.docker import PORT
from moorage.model.ports import KeyPair

CONFIG = "etc/docker/daemon.json"
CA, CERTIFICATE, KEY = (f"etc/docker/tls/{name}.pem" for name in ("ca", "cert", "key"))
LOG = "/var/log/dockerd.log"
LOG_KIB = 8192
"""The log is cut when it is longer (looked at every ten minutes), and at every start."""
LOG_KEPT_KIB = 1024

_ENGINES = """
engines() {  # this node's own, and not those that run in containers
  for process in /proc/[0-9]*; do
    { read -r name < "$process/comm"; } 2>/dev/null || continue
    [ "$name" = dockerd ] || continue
    [ "$(readlink "$process/ns/mnt")" = "$(readlink /proc/self/ns/mnt)" ] || continue
    echo "${process#/proc/}"
  done
}
"""

START = f"""set -eu
umask 077
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd /
command -v dockerd >/dev/null || {{ echo 'dockerd is not installed' >&2; exit 1; }}
{_ENGINES}
gone() {{  # within so many tenths of a second
  for _ in $(seq "$1"); do
    [ -n "$(engines)" ] || return 0
    sleep 0.1
  done
  return 1
}}

mkdir -p /etc/docker /run/docker /var/lib/docker /var/log
tar -xpf - -C /

running=$(engines)
if [ -n "$running" ]; then
  kill $running || :
  gone 50 || {{ kill -KILL $running || :; gone 20; }}
fi
rm -f /run/docker.pid /run/docker.sock
supervised=/run/docker/containerd/containerd.pid
if [ -f $supervised ]; then
  read -r process < $supervised || :
  {{ read -r name < "/proc/$process/comm"; }} 2>/dev/null || name=none
  [ "$name" = containerd ] || rm -f $supervised
fi

# cgroup v2 gives controllers to children only of a group that has no process of its own.
# A machine's real root group, which has no cgroup.type, is not ours to change.
groups=/sys/fs/cgroup
if [ -f $groups/cgroup.controllers ] && [ -f $groups/cgroup.type ]; then
  mkdir -p $groups/init
  while read -r process; do
    echo "$process" > $groups/init/cgroup.procs || :
  done < $groups/cgroup.procs 2>/dev/null
  for controller in $(cat $groups/cgroup.controllers); do
    echo "+$controller" > $groups/cgroup.subtree_control || :
  done 2>/dev/null
fi

[ ! -f {LOG} ] || mv -f {LOG} {LOG}.1
setsid dockerd --config-file=/{CONFIG} >>{LOG} 2>&1 </dev/null &
setsid sh -c '
  flock -n 9 || exit 0
  while sleep 600; do
    [ "$(stat -c %s {LOG})" -gt {LOG_KIB * 1024} ] || continue
    tail -c {LOG_KEPT_KIB * 1024} {LOG} > {LOG}.1
    : > {LOG}
  done' 9>/run/docker/moorage-log.lock >/dev/null 2>&1 </dev/null &
"""

LOOK = f"""{_ENGINES}
grep -v -e level=info -e level=debug {LOG} | tail -n 3
[ -n "$(engines)" ]
"""
"""What an engine says that does not answer; it fails where the engine has ended."""


def config(labels: Mapping[str, str]) -> dict[str, Any]:
    """`daemon.json`, for Docker 20.10 and later."""
    return {
        "hosts": ["unix:///run/docker.sock", f"tcp://0.0.0.0:{PORT}"],
        "tls": True,
        "tlsverify": True,
        "tlscacert": f"/{CA}",
        "tlscert": f"/{CERTIFICATE}",
        "tlskey": f"/{KEY}",
        "data-root": "/var/lib/docker",
        "exec-root": "/run/docker",
        "pidfile": "/run/docker.pid",
        "labels": [f"{name}={value}" for name, value in sorted(labels.items())],
        "log-driver": "json-file",
        "log-opts": {"max-size": "10m", "max-file": "3"},
        "userland-proxy": False,
    }


def archive(ca: bytes, pair: KeyPair, labels: Mapping[str, str]) -> bytes:
    """The engine's files, as a tar archive to be unpacked at /. It holds a private key."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, data in (
            (CA, ca),
            (CERTIFICATE, pair.certificate),
            (KEY, pair.key),
            (CONFIG, json.dumps(config(labels), indent=2).encode()),
        ):
            file = tarfile.TarInfo(path)
            file.size = len(data)
            file.mode = 0o600
            tar.addfile(file, io.BytesIO(data))
    return packed.getvalue()
