"""The floor of a Kubernetes cluster: the same processes with the same flags, started by a script.

    python -m bench.floor_kubernetes RELEASE    # as root; prints one JSON object

One master and two workers in the bundles of `floor.py`. The files, and the script that lays them
in a node, are the driver's own, so that flags are the same by construction. Nothing waits for
anything that the programs don't wait for themselves: all nodes at once, and in each all programs
at once. There is no database, no API, no look, no repair. Times are in seconds from nothing:
until all nodes are ready, and until the first pod runs that is asked for then.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests import made
from tests.real.kubernetes import Kubectl, pod

from bench.floor import RUN, Cluster, place, run
from moorage.drivers.kubernetes import access, control_plane, laying, naming, script
from moorage.drivers.kubernetes.place import PAUSE, place_of
from moorage.model.cluster import ClusterSpec
from moorage.model.node import Flavor
from moorage.model.ports import CaKeys
from moorage.trust import ClusterAuthority, new_ca

NODES = ("master-0", "worker-0", "worker-1")
MASTER = Flavor("medium", vcpus=2, memory_mib=2048, disk_gib=1, pids=4096)
WORKER = Flavor("small", vcpus=2, memory_mib=1024, disk_gib=1, pids=4096)
POLL = 0.02


def first_pod(kubectl: Kubectl) -> float:
    """Seconds from the request to a pod that is ready; every node has its image.

    The request is made again while the namespace's service account is not there yet.
    """
    began = time.monotonic()
    wanted = json.dumps(pod("first", container={"image": PAUSE}))
    kubectl.until(lambda: "created" in kubectl.run("apply", "-f", "-", stdin=wanted, code=None))
    kubectl.run("wait", "--for=condition=Ready", "pod/first", "--timeout=60s")
    return time.monotonic() - began


class Kubernetes(Cluster):
    memory_mib = MASTER.memory_mib

    def __init__(self, top: Path, release: Path) -> None:
        super().__init__(0, top)
        self.release = release
        self.keys = ClusterAuthority(CaKeys(new_ca("floor"), secret=b"s" * 32))
        self.admin = self.keys.client("floor", [access.MASTERS])
        self.spec: ClusterSpec = made.spec(
            *(self.keys, 1, 2),
            flavor=WORKER,
            master_flavor=MASTER,
            coe="kubernetes",
            labels={naming.VERSION: release.name},
        )

    def create(self, pool: ThreadPoolExecutor) -> None:
        self.connect()
        list(pool.map(self.node, range(3)))
        context = ssl.create_default_context(cadata=self.keys.certificate.decode())
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.admin.certificate + self.admin.key)
            file.flush()
            context.load_cert_chain(file.name)
        while self._ready(context) != ["True"] * 3:
            time.sleep(POLL)

    def _ready(self, context: ssl.SSLContext) -> list[str]:
        """What each node says of being ready; none where there is no answer yet."""
        connection = http.client.HTTPSConnection(
            self.addresses[0], naming.PORT, timeout=5, context=context
        )
        try:
            connection.request("GET", "/api/v1/nodes")
            nodes = json.loads(connection.getresponse().read()).get("items", [])
        except (OSError, ValueError, http.client.HTTPException):
            return []
        finally:
            connection.close()
        told = (each for node in nodes for each in node["status"].get("conditions", ()))
        return [each["status"] for each in told if each["type"] == "Ready"]

    def kubectl(self) -> Kubectl:
        server = f"https://{self.addresses[0]}:{naming.PORT}"
        config = self.top / "config"
        config.write_bytes(access.kubeconfig(server, self.keys.certificate, self.admin))
        return Kubectl(self.release / "kubectl", config)

    def node(self, index: int) -> None:
        self.boot(index)
        told = dict(zip(NODES, self.addresses, strict=True))
        where = place_of(self.spec, told, NODES[index], self.release.name)
        group = next(g for g in self.spec.groups if NODES[index] in g.nodes)
        laid = laying.lay(where, naming.marks(group, self.release.name), self.keys)
        files = {**laid.files, **script.extras(where)}
        files[control_plane.INITIAL] = control_plane.initial(
            {where.hostname: where.address}, joining=False
        )
        lists = [" ".join(each.name for each in some) for some in (laid.first, laid.later)]
        lists += [script.needs(where), script.PODS]
        for purpose, packed in ((script.START, laying.archive(files)), (script.JOIN, b"")):
            run("runc", "--root", str(RUN), "exec", "--cwd", "/", self.names[index],
                "/bin/sh", "-c", script.SCRIPT, "sh", purpose, script.FOUND, *lists,
                stdin=packed)  # fmt: skip

    def config(self, name: str) -> dict[str, Any]:
        made = super().config(name)
        share = {"destination": naming.BINARIES, "type": "bind", "source": str(self.release)}
        made["mounts"].append(share | {"options": ["rbind", "ro", "nosuid", "nodev"]})
        return made


def main() -> None:
    release = Path(sys.argv[1])
    with place() as top, ThreadPoolExecutor(4) as pool:
        cluster = Kubernetes(top, release)
        try:
            start = time.monotonic()
            cluster.create(pool)
            created = time.monotonic() - start
            ran = created + first_pod(cluster.kubectl())
        finally:
            cluster.delete(pool)
    print(json.dumps({"create": created, "pod": ran}))


if __name__ == "__main__":
    main()
