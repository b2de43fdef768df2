"""A node's engine: its configuration, and the script that starts it there, and its front.

What must stay true:

- The engine listens on its socket only. Whoever comes over the network has passed its
  front (`front.py`), which asks for a certificate of the cluster's CA from the first moment.
- Everything comes in one call of the host: files as a tar archive on stdin, then the
  script. To enter a node costs as much as a request to its engine costs ten times.
- The script may be run at any time, and killed at any point. It believes no pid file:
  those that a power cut left name other processes.
- An engine that answers is left alone, unless it is to be ended: its end is that of its
  containers. So is its configuration; a new one is there only when no engine is.
- Files of the node are its tenant's. They are written, and never believed.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

from moorage.drivers.swarm import front
from moorage.model.ports import KeyPair

CONFIG = "etc/docker/daemon.json"
NEW = "etc/docker/new"
"""Where files wait until all of them are there, each under its own last name."""
LOG = "/var/log/dockerd.log"
LOG_KIB = 8192
"""The log is cut when it is longer (looked at every ten minutes), and at every start."""
LOG_KEPT_KIB = 1024
PROOF_SECONDS = 2
"""An engine that answers on its socket within this is not ended."""
WAIT = 0.02
"""Seconds between looks for the engine's socket, by its front."""
SOCKET_SECONDS = 30

TRUST, START, RESTART = "trust", "start", "restart"
"""What the script is for, its one argument. The engine runs after each of them.

TRUST: there are new certificates; whoever is connected stays so.
START: the engine does not answer over the network. Its front is begun anew; itself only
if it does not answer on its socket either.
RESTART: both are begun anew.
"""

_PROCESSES = f"""
ours() {{  # processes of that name in this node, and not those that run in containers
  for process in /proc/[0-9]*; do
    {{ read -r name < "$process/comm"; }} 2>/dev/null || continue
    [ "$name" = "$1" ] || continue
    [ "$(readlink "$process/ns/mnt")" = "$(readlink /proc/self/ns/mnt)" ] || continue
    echo "${{process#/proc/}}"
  done
}}
engines() {{ ours dockerd; }}
fronts() {{  # the master and its workers
  for process in $(ours haproxy); do
    ! grep -qaF /{front.CONFIG} "/proc/$process/cmdline" 2>/dev/null || echo "$process"
  done
}}
"""

SCRIPT = f"""set -eu
umask 077
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd /
for program in dockerd haproxy; do
  command -v $program >/dev/null || {{ echo "$program is not installed" >&2; exit 1; }}
done
{_PROCESSES}
gone() {{  # within so many tenths of a second
  for _ in $(seq "$1"); do
    [ -n "$(engines)" ] || return 0
    sleep 0.1
  done
  return 1
}}
good() {{  # whether the engine that runs may stay; one that listens for itself takes the port
  ! grep -q tcp: /{CONFIG} || return 1
  case $1 in
    {TRUST}) ;;
    {START}) timeout -s KILL {PROOF_SECONDS} docker -H unix://{front.SOCKET} version ;;
    *) return 1 ;;
  esac
}}
master() {{  # the one of these processes whose parent is none of them
  for process in "$@"; do
    parent=$(sed -n 's/^PPid:[^0-9]*//p' "/proc/$process/status" 2>/dev/null) || continue
    case " $* " in *" $parent "*) ;; *) echo "$process" ;; esac
  done
}}
open_front() {{
  setsid sh -c '
    for _ in $(seq {SOCKET_SECONDS / WAIT:.0f}); do
      [ ! -S {front.SOCKET} ] || exec haproxy -W -f /{front.CONFIG}
      sleep {WAIT}
    done' >>{LOG} 2>&1 </dev/null &
}}

mkdir -p /etc/docker/tls /run/docker /var/lib/docker /var/log
rm -rf /{NEW}
tar -xpf - -C /

running=$(engines)
stays=
[ -z "$running" ] || ! good "$1" >/dev/null 2>&1 || stays=yes
front=$(fronts)
if [ -n "$front" ] && [ "$1$stays" != {TRUST}yes ]; then
  kill -KILL $front || :
  front=
fi
if [ -n "$running" ] && [ -z "$stays" ]; then
  kill $running || :
  gone 50 || {{ kill -KILL $running || :; gone 20; }}
fi
# Each with the others' former ones is good too.
mv -f /{NEW}/ca.pem /{front.CA}
mv -f /{NEW}/server.pem /{front.SERVER}
mv -f /{NEW}/front.cfg /{front.CONFIG}

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

if [ -z "$stays" ]; then
  mv -f /{NEW}/daemon.json /{CONFIG}
  rm -f /run/docker.pid {front.SOCKET}
  supervised=/run/docker/containerd/containerd.pid
  if [ -f $supervised ]; then
    read -r process < $supervised || :
    {{ read -r name < "/proc/$process/comm"; }} 2>/dev/null || name=none
    [ "$name" = containerd ] || rm -f $supervised
  fi
  [ ! -f {LOG} ] || mv -f {LOG} {LOG}.1
  setsid dockerd --config-file=/{CONFIG} >>{LOG} 2>&1 </dev/null &
fi
rm -rf /{NEW}
# The master becomes its own successor at once, and tells the workers when there are new ones.
[ -n "$front" ] && kill -USR2 $(master $front) || open_front
setsid sh -c '
  flock -n 9 || exit 0
  while sleep 600; do
    [ "$(stat -c %s {LOG})" -gt {LOG_KIB * 1024} ] || continue
    tail -c {LOG_KEPT_KIB * 1024} {LOG} > {LOG}.1
    : > {LOG}
  done' 9>/run/docker/moorage-log.lock >/dev/null 2>&1 </dev/null &
"""

LOOK = f"""{_PROCESSES}
grep -v -e level=info -e level=debug -e '^\\[[NW]' {LOG} | tail -n 3
[ -n "$(engines)" ]
"""
"""What an engine says that does not answer; it fails where the engine has ended."""

JOINS = """grep -q '"JoinInProgress":true' /var/lib/docker/swarm/docker-state.json"""
"""Succeeds where the engine was to join a swarm, and was never let in. It notes so for its own
next start: https://github.com/moby/moby/blob/20.10/daemon/cluster/noderunner.go"""


def config(labels: Mapping[str, str]) -> dict[str, Any]:
    """`daemon.json`, for Docker 20.10 and later."""
    return {
        "hosts": [f"unix://{front.SOCKET}"],
        "data-root": "/var/lib/docker",
        "exec-root": "/run/docker",
        "pidfile": "/run/docker.pid",
        "labels": [f"{name}={value}" for name, value in sorted(labels.items())],
        "log-driver": "json-file",
        "log-opts": {"max-size": "10m", "max-file": "3"},
        "userland-proxy": False,
    }


def archive(ca: bytes, pair: KeyPair, labels: Mapping[str, str]) -> bytes:
    """All files in NEW, as a tar archive to be unpacked at /. It holds a private key."""
    files = front.files(ca, pair)
    files[CONFIG] = json.dumps(config(labels), indent=2).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, data in files.items():
            file = tarfile.TarInfo(f"{NEW}/{path.rpartition('/')[2]}")
            file.size = len(data)
            file.mode = 0o600
            tar.addfile(file, io.BytesIO(data))
    return packed.getvalue()
