"""The one script that is run in a node: what it lays there, and what it starts.

What must stay true:

- Everything comes in one call of the host: files as a tar archive on stdin, then the
  script. It may be run at any time, and killed at any point.
- What holds a key is in /run, which is memory. On the node's disk are etcd's data, the
  kubelet's and containerd's.
- What runs and has not changed is left alone; what has changed is ended, and runit starts
  it again. Pods outlive kubelet and containerd.
- etcd makes no data of its own accord, for that would be another cluster: only where it is
  said to found one, or to join.
- Files of the node are its tenant's. They are written, and never believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network

from moorage.drivers.kubernetes.control_plane import APISERVER, ETCD, ETCD_DATA, FORCE
from moorage.drivers.kubernetes.laying import NEW
from moorage.drivers.kubernetes.place import (
    CONTAINERD,
    LOGS,
    PAUSE,
    RUN,
    SECRETS,
    SERVICES,
    Place,
    secret,
)
from moorage.drivers.kubernetes.versions import Fact

START, RESTART, JOIN = "start", "restart", "join"
"""What the script is for, its first argument.

START: what can run before the API answers, runs; of the rest, what runs already is brought
up to date. RESTART: the same, and all that ran is ended first. JOIN: the rest runs too.
"""
PODS, NO_PODS = "pods", "no-pods"
"""Whether pods run in the node, an argument: the kernel and the network are made so."""
WAIT, DATA, FOUND, FRESH, ALONE = "wait", "data", "found", "fresh", "alone"
"""Whether a master's etcd and API server run, its second argument: not yet; if it has data;
with or without; as a member that was just added, whatever it had before; with data, as the only
member of its cluster."""

OF_ALL = "runsvdir sv svlogd ip"
"""What every node needs of Debian's programs."""
OF_PODS = "containerd ctr runc conntrack iptables-restore haproxy"
"""... one that runs pods: it may have to find several masters."""
OF_MASTERS = "etcd pdns_recursor rec_control curl bash busybox"

RUNTIME_CHECK = """[ -z "$unfit" ] || {
  told=$(containerd --version | cut -d' ' -f3)
  case ${told#v} in
    $unfit)
      echo "containerd $told can't serve this release of Kubernetes: before 1.23 it takes one" \\
        "before 2.0 (CRI v1alpha2), and from 1.26 on one from 1.6 on (CRI v1)" >&2
      exit 1
      ;;
  esac
}
"""

ROUTES, NAT = secret("routes"), secret("nat")
PAUSE_SCRIPT = f"{RUN}/pause"
SYSCTLS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
"""What a kubelet sets at its start, and ends if it can't: in a user namespace it can't. It gets
copies, which change nothing. (From 1.22 on a feature gate makes it go on without.)"""

SCRIPT = f"""set -eu
umask 077
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd /
purpose=$1 etcd=$2 first=$3 later=$4 pods=$6 unfit=$7
for program in $5; do
  command -v $program >/dev/null || {{ echo "$program is not installed" >&2; exit 1; }}
done
[ "$pods" = {NO_PODS} ] || [ -x /usr/lib/cni/bridge ] || {{
  echo "containernetworking-plugins is not installed" >&2
  exit 1
}}
{RUNTIME_CHECK}
ours() {{  # processes of that name in this node, and not those that run in containers
  for process in /proc/[0-9]*; do
    {{ read -r name < "$process/comm"; }} 2>/dev/null || continue
    [ "$name" = "$1" ] || continue
    [ "$(readlink "$process/ns/mnt")" = "$(readlink /proc/self/ns/mnt)" ] || continue
    echo "${{process#/proc/}}"
  done
}}
# An API server that is asked to end waits for all who watch it, up to a minute.
ending() {{ [ "$1" = {APISERVER} ] && echo kill || echo term; }}
runs() {{ case $(sv status {SERVICES}/"$1" 2>/dev/null) in run:*) ;; *) return 1 ;; esac; }}

if [ "$purpose" != {JOIN} ]; then
  mkdir -p {SECRETS} {SERVICES} {LOGS}
  rm -rf /{NEW}
  tar -xpf - -C /
  mv -f /{NEW}{SECRETS}/* {SECRETS}/
  ip -batch {ROUTES}
fi

if [ "$purpose" != {JOIN} ] && [ "$pods" = {PODS} ]; then
  mkdir -p /etc/cni/net.d
  mv -f /{NEW}{RUN}/pause {PAUSE_SCRIPT}
  mv -f /{NEW}/etc/cni/net.d/* /etc/cni/net.d/

  # The kernel, as the kubelet wants it. Where all ids are the machine's own, nothing is hidden.
  if [ "$(tr -s ' ' < /proc/self/uid_map | cut -d' ' -f4)" != 4294967295 ]; then
    mkdir -p {RUN}/sys
    for each in {" ".join(SYSCTLS)}; do
      ! mountpoint -q /proc/sys/$each || continue
      copy={RUN}/sys/${{each##*/}}
      cat /proc/sys/$each > $copy
      mount --bind $copy /proc/sys/$each
    done
    [ -e /dev/kmsg ] || ln -s /dev/null /dev/kmsg
  fi
  mount --make-rshared /
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

  # The network of pods
  echo 1 > /proc/sys/net/ipv4/ip_forward
  {{ echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables; }} 2>/dev/null || :
  # A pod may write any source into its packets: from the pods' bridge comes what is theirs.
  echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter
  iptables-restore -w --noflush {NAT}
  iptables -w -t nat -C POSTROUTING -j MOORAGE 2>/dev/null ||
    iptables -w -t nat -A POSTROUTING -j MOORAGE
fi

if [ "$purpose" != {JOIN} ]; then
  changed=
  for each in $first $later; do
    mkdir -p {SERVICES}/$each/log
    cmp -s /{NEW}{SERVICES}/$each/run {SERVICES}/$each/run || changed="$changed $each"
    mv -f /{NEW}{SERVICES}/$each/log/run {SERVICES}/$each/log/run
    mv -f /{NEW}{SERVICES}/$each/run {SERVICES}/$each/run
    : > {SERVICES}/$each/down
  done
  rm -rf /{NEW}
  for each in {SERVICES}/*; do  # what is not wanted any more, such as the front of one master
    case " $first $later " in *" ${{each##*/}} "*) continue ;; esac
    sv force-shutdown "$each" >/dev/null 2>&1 || :
    rm -rf "$each"
  done
  [ -n "$(ours runsvdir)" ] || setsid runsvdir -P {SERVICES} >/dev/null 2>&1 </dev/null &
fi

for each in $first $later; do
  for _ in $(seq 160); do
    [ ! -p {SERVICES}/$each/supervise/ok ] || break
    sleep 0.05
  done
done
if [ "$purpose" = {JOIN} ]; then
  for each in $later; do sv up {SERVICES}/$each >/dev/null; done
  exit 0
fi
[ $etcd != {FRESH} ] || {{
  sv force-stop {SERVICES}/{ETCD} >/dev/null || :
  rm -rf {ETCD_DATA}/member
}}
blank=
case $etcd in
  {WAIT}) blank=yes ;;
  {DATA} | {ALONE}) [ -d {ETCD_DATA}/member ] || blank=yes ;;
esac
[ $etcd != {ALONE} ] || {{
  : > {FORCE}
  sv kill {SERVICES}/{ETCD} >/dev/null || :
}}
for each in $first $later; do
  ! runs $each || case " $changed " in
    *" $each "*) sv $(ending $each) {SERVICES}/$each >/dev/null ;;
    *) [ "$purpose" != {RESTART} ] || sv kill {SERVICES}/$each >/dev/null ;;
  esac
done
for each in $first; do
  case $each in {ETCD} | {APISERVER}) [ -z "$blank" ] || continue ;; esac
  sv up {SERVICES}/$each >/dev/null
done
"""

HAS_DATA = f"[ -d {ETCD_DATA}/member ]"
"""Succeeds where a master's disk holds a member of an etcd cluster, whichever."""

PAUSE_IMAGE = f"""#!/bin/sh
# The image of pods' first containers, made of this node's own programs: no registry is needed.
set -eu
ask() {{ ctr -a {CONTAINERD} -n k8s.io "$@"; }}
for _ in $(seq 150); do
  ! ask version >/dev/null 2>&1 || break
  sleep 0.1
done
[ -z "$(ask images ls -q name=={PAUSE})" ] || exit 0
made=$(mktemp -d {RUN}/pause.XXXXXX)
trap 'rm -rf "$made"' EXIT
cd "$made"
cp "$(command -v busybox)" busybox
cp /usr/bin/tini-static init
chmod 0755 busybox init
tar --owner=0 --group=0 --numeric-owner --mtime=@0 -cf layer.tar busybox init
sum=$(sha256sum layer.tar | cut -d' ' -f1)
printf '%s' '{{"architecture":"'"$(dpkg --print-architecture)"'","os":"linux",' \\
  '"config":{{"User":"65535:65535",' \\
  '"Entrypoint":["/init","-s","--","/busybox","sleep","2147483647"]}},' \\
  '"rootfs":{{"type":"layers","diff_ids":["sha256:'"$sum"'"]}}}}' > config.json
printf '%s' '[{{"Config":"config.json","RepoTags":["{PAUSE}"],"Layers":["layer.tar"]}}]' \\
  > manifest.json
tar -cf image.tar manifest.json config.json layer.tar
ask images import image.tar
ask images label {PAUSE} io.cri-containerd.pinned=pinned
"""


def extras(place: Place) -> dict[str, bytes]:
    """What the script itself reads, by path."""
    files = {ROUTES: routes(place).encode()}
    if place.runs_pods:
        files |= {NAT: nat(place).encode(), PAUSE_SCRIPT: PAUSE_IMAGE.encode()}
    return files


def needs(place: Place) -> str:
    """The programs that must be there already, for the script to say which one is not."""
    of_master = OF_MASTERS if place.is_master else ""
    return " ".join(filter(None, (OF_ALL, OF_PODS if place.runs_pods else "", of_master)))


def unfit(place: Place) -> str:
    """A pattern of the versions of containerd that can't serve the node's release."""
    if not place.runs_pods:
        return ""
    if not Fact.CRI_V1.holds(place.version):
        return "[2-9].*"
    return "1.[0-5].*" if Fact.CRI_V1_ONLY.holds(place.version) else ""


def routes(place: Place) -> str:
    """To the pods of every node that there can be in the network, for `ip -batch`.

    Whose pods are where follows from the nodes' addresses, so all of it is laid at once: no
    node needs to be told of another that comes or goes.
    """
    network = IPv4Network((place.address, 24), strict=False)
    others = (str(other) for other in network.hosts() if str(other) != place.address)
    return "".join(f"route replace {place.ranges.pods_of(other)} via {other}\n" for other in others)


def nat(place: Place) -> str:
    """What goes to other pods and nodes keeps its pod's address; beyond, it is the node's."""
    network = IPv4Network((place.address, 24), strict=False)
    pods = place.ranges.pods
    return f"""*nat
:MOORAGE - [0:0]
-A MOORAGE ! -s {pods} -j RETURN
-A MOORAGE -d {pods} -j RETURN
-A MOORAGE -d {network} -j RETURN
-A MOORAGE -j MASQUERADE
COMMIT
"""


def last_words(services: Sequence[str]) -> str:
    """A script that tells what these services said last, three lines each."""
    return "\n".join(
        f"tail -n 40 {LOGS}/{name}/current 2>/dev/null | grep -v '^[IW][0-9]' | tail -n 2"
        for name in services
    )
