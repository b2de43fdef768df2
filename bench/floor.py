"""The floor: what a plain script needs for the bundles, the engines and the Swarm.

    bench/floor.py --clusters 5         # as root; prints one JSON object

It makes the same bundles as provider `local` (same user namespace, limits, mounts,
private root), one manager and two workers a cluster, starts a TLS engine in each and
forms the Swarms: everything at once that can be, no database, no API, no isolation
rules, no repair. Times are in seconds, from nothing to all nodes ready, and from
there to nothing. It uses nothing of Moorage, so that neither can flatter the other.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import http.client
import ipaddress
import json
import os
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

RUN = Path("/run/moorage-floor")
CGROUP = "moorage-floor"
SLOT = 4000
"""The first cluster's share of the machine, far from where an install begins."""
VCPUS, MEMORY_MIB, PIDS = 2, 1024, 4096
CAPABILITIES = """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
 LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE
 SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
 SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
 WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE""".split()
ENGINE = """set -e
umask 077
mkdir -p /etc/docker
cd /etc/docker
cat > all.pem
exec setsid sh -c 'exec dockerd -H unix:///run/docker.sock -H tcp://0.0.0.0:2376 --tlsverify \
 --tlscacert all.pem --tlscert all.pem --tlskey all.pem --userland-proxy=false \
 >/var/log/dockerd.log 2>&1 </dev/null &'
"""


@dataclass
class Authority:
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    name: x509.Name = field(
        default_factory=lambda: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "floor")])
    )

    def issue(self, *, usage: x509.ObjectIdentifier | None, address: str = "") -> bytes:
        """A certificate (the CA's own where there is no `usage`) and its key, PEM."""
        key = ec.generate_private_key(ec.SECP256R1()) if usage else self.key
        now = datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address or "client")])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject if usage else self.name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=not usage, path_length=None), critical=True)
        )
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if address:
            san = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            builder = builder.add_extension(san, critical=False)
        pem = serialization.Encoding.PEM
        certificate = builder.sign(self.key, hashes.SHA256()).public_bytes(pem)
        return certificate + key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


class Cluster:
    memory_mib = MEMORY_MIB

    def __init__(self, number: int, top: Path) -> None:
        self.slot = SLOT + number
        self.base = 0x70000000 + self.slot * 65536
        self.bridge = f"flr{self.slot}"
        net = ipaddress.ip_address("10.128.0.0") + self.slot * 256
        self.addresses = [str(net + index + 2) for index in range(3)]
        self.gateway = str(net + 1)
        self.names = [f"floor{number}-{role}" for role in ("m0", "w0", "w1")]
        self.top = top / str(number)
        self.authority = Authority()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.pids: dict[int, int] = {}

    def create(self, pool: ThreadPoolExecutor) -> None:
        self.connect()
        ca = self.authority.issue(usage=None)
        self.context.load_verify_locations(cadata=ca.split(b"-----BEGIN PRIVATE")[0].decode())
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.authority.issue(usage=ExtendedKeyUsageOID.CLIENT_AUTH))
            file.flush()
            self.context.load_cert_chain(file.name)
        manager, *workers = [pool.submit(self.node, index) for index in range(3)]
        manager.result()
        address = self.addresses[0]
        spec = {"Dispatcher": {"HeartbeatPeriod": 10**9}}
        listen = {"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": address}
        self.api(0, "POST", "/swarm/init", listen | {"Spec": spec})
        token = self.api(0, "GET", "/swarm")["JoinTokens"]["Worker"]

        def join(index: int) -> None:
            workers[index - 1].result()
            body = {"AdvertiseAddr": self.addresses[index], "ListenAddr": "0.0.0.0:2377"}
            body |= {"RemoteAddrs": [f"{address}:2377"], "JoinToken": token}  # type: ignore[dict-item]
            self.api(index, "POST", "/swarm/join", body)

        list(pool.map(join, (1, 2)))
        while [n["Status"]["State"] for n in self.api(0, "GET", "/nodes")] != ["ready"] * 3:
            time.sleep(0.01)

    def connect(self) -> None:
        """The network of its nodes."""
        run("ip", "link", "add", self.bridge, "mtu", "1400", "type", "bridge")
        run("ip", "addr", "add", f"{self.gateway}/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")

    def boot(self, index: int) -> None:
        """A node that runs its first process and is in the network."""
        name, address = self.names[index], self.addresses[index]
        bundle = self.bundle(index)
        with (bundle / "log").open("w") as log:  # not a pipe: the node would keep it open
            run("runc", "--root", str(RUN), "create", "--bundle", str(bundle), "--pid-file",
                str(bundle / "pid"), name, output=log)  # fmt: skip
        pid = self.pids[index] = int((bundle / "pid").read_text())
        for controller in Path("/sys/fs/cgroup").iterdir():
            group = controller / CGROUP / name
            for path in (group, group / "cgroup.procs", group / "tasks"):
                if path.exists():
                    os.chown(path, self.base, self.base)
        veth = f"{self.bridge}n{index}"
        run("ip", "link", "add", veth, "mtu", "1400", "type", "veth",
            "peer", "name", "eth0", "netns", str(pid))  # fmt: skip
        run("ip", "link", "set", veth, "master", self.bridge, "up")
        inside = f"link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 up\n"
        inside += f"route add default via {self.gateway}\n"
        run("nsenter", "-t", str(pid), "-n", "ip", "-batch", "-", stdin=inside.encode())
        run("runc", "--root", str(RUN), "start", name)

    def node(self, index: int) -> None:
        self.boot(index)
        name, address = self.names[index], self.addresses[index]
        server = self.authority.issue(usage=ExtendedKeyUsageOID.SERVER_AUTH, address=address)
        certificate, _, key = server.partition(b"-----BEGIN PRIVATE")
        ca = self.authority.issue(usage=None).split(b"-----BEGIN PRIVATE")[0]
        run("runc", "--root", str(RUN), "exec", "--cwd", "/", name, "sh", "-c", ENGINE,
            stdin=certificate + b"-----BEGIN PRIVATE" + key + ca)  # fmt: skip
        while True:
            try:
                self.api(index, "GET", "/version")
            except OSError:
                time.sleep(0.01)
            else:
                return

    def api(self, index: int, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPSConnection(
            self.addresses[index], 2376, timeout=30, context=self.context
        )
        headers = {"Content-Type": "application/json"}
        connection.request(method, f"/v1.41{path}", json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {text!r}")
        return json.loads(text) if text else None

    def bundle(self, index: int) -> Path:
        directory = self.top / self.names[index]
        root = directory / "root"
        for name in ("proc", "sys", "dev", "run", "tmp", "root", "usr", "etc/alternatives",
                     "etc/ssl/certs", "var/lib/docker", "var/log", "var/tmp"):  # fmt: skip
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "var/run").symlink_to("/run")
        for name in ("bin", "sbin", "lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\ndocker:x:999:\n")
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
        (root / "etc/resolv.conf").write_text("nameserver 192.0.2.53\n")
        for link in Path("/etc/alternatives").iterdir():
            if "tables" in link.name:
                (root / "etc/alternatives" / link.name).symlink_to(link.readlink())
        for path in (root, *root.rglob("*")):
            os.lchown(path, self.base, self.base)
        (directory / "config.json").write_text(json.dumps(self.config(self.names[index])))
        return directory

    def config(self, name: str) -> dict[str, Any]:
        quiet = ["nosuid", "noexec", "nodev"]
        ids = [{"containerID": 0, "hostID": self.base, "size": 65536}]
        allowed = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2))
        mounts = [
            ("/proc", "proc", []),
            ("/dev", "tmpfs", ["nosuid", "mode=755", "size=65536k"]),
            ("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666"]),
            ("/dev/shm", "tmpfs", [*quiet, "mode=1777"]),
            ("/dev/mqueue", "mqueue", quiet),
            ("/sys", "sysfs", quiet),
            ("/sys/fs/cgroup", "cgroup", quiet),
            ("/run", "tmpfs", ["nosuid", "nodev", "mode=755"]),
        ]
        return {
            "ociVersion": "1.0.2",
            "hostname": name,
            "root": {"path": "root"},
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["/usr/bin/tini", "-s", "--", "/usr/bin/sleep", "infinity"],
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "cwd": "/",
                "capabilities": {
                    kind: [f"CAP_{c}" for c in CAPABILITIES]
                    for kind in ("bounding", "effective", "permitted")
                },
            },
            "mounts": [
                *({"destination": d, "type": t, "source": t, "options": o} for d, t, o in mounts),
                {"destination": "/usr", "type": "bind", "source": "/usr",
                 "options": ["rbind", "ro", "nosuid", "nodev"]},
            ],
            "linux": {
                "namespaces": [
                    {"type": t}
                    for t in ("user", "pid", "network", "mount", "uts", "ipc", "cgroup")
                ],
                "uidMappings": ids,
                "gidMappings": ids,
                "cgroupsPath": f"/{CGROUP}/{name}",
                "resources": {
                    "memory": {"limit": self.memory_mib << 20},
                    "cpu": {"quota": VCPUS * 100_000, "period": 100_000},
                    "pids": {"limit": PIDS},
                    "devices": [
                        {"allow": False, "access": "rwm"},
                        *({"allow": True, "type": "c", "major": a, "minor": b, "access": "rwm"}
                          for a, b in allowed),
                        {"allow": True, "type": "c", "major": 136, "access": "rwm"},
                    ],
                },
            },
        }  # fmt: skip

    def delete(self, pool: ThreadPoolExecutor) -> None:
        list(pool.map(self.remove, range(3)))
        run("ip", "link", "del", self.bridge, check=False)
        shutil.rmtree(self.top, ignore_errors=True)

    def remove(self, index: int) -> None:
        run("runc", "--root", str(RUN), "delete", "--force", self.names[index], check=False)
        run("ip", "link", "del", f"{self.bridge}n{index}", check=False)
        shutil.rmtree(self.top / self.names[index], ignore_errors=True)
        for controller in Path("/sys/fs/cgroup").iterdir():
            for path, _, _ in os.walk(controller / CGROUP / self.names[index], topdown=False):
                Path(path).rmdir()


def run(*argv: str, stdin: bytes = b"", check: bool = True, output: Any = None) -> None:
    done = subprocess.run(
        argv,
        input=stdin,
        stdout=output or subprocess.PIPE,
        stderr=output or subprocess.PIPE,
        check=False,
    )
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {(done.stderr or b'').decode()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clusters", type=int, default=1)
    count = parser.parse_args().clusters
    with place() as top, ThreadPoolExecutor(count * 4) as nodes, ThreadPoolExecutor(count) as pool:
        clusters = [Cluster(number, top) for number in range(count)]
        try:
            start = time.monotonic()
            list(pool.map(lambda cluster: cluster.create(nodes), clusters))
            created = time.monotonic()
        finally:
            deleting = time.monotonic()
            list(pool.map(lambda cluster: cluster.delete(nodes), clusters))
            deleted = time.monotonic()
    print(json.dumps({"create": created - start, "delete": deleted - deleting}))


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """A directory for clusters; nothing of them is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="moorage-floor-", dir="/var/tmp") as top:
        Path(top).chmod(0o711)
        try:
            yield Path(top)
        finally:
            shutil.rmtree(RUN, ignore_errors=True)
            for controller in Path("/sys/fs/cgroup").iterdir():
                if (controller / CGROUP).is_dir():
                    (controller / CGROUP).rmdir()


if __name__ == "__main__":
    main()
