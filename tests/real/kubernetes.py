"""A tenant's Kubernetes as tests use it: a release, kubectl, and images of no registry."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from moorage.providers.local.runtime import Runc
from moorage.releases.binary import NEEDED
from tests.real.clients import ROOT, Shell
from tests.real.install import Install

RELEASE = "v1.20.2"
"""What is built."""
IMAGE = "moorage.test/busybox:1"
SAID = """#!/bin/sh
printf "Content-Type: text/plain\\r\\n\\r\\n"
echo $(hostname) $REMOTE_ADDR ${ROUND:-1}
"""
SERVE = (
    *("/bin/sh", "-c"),
    f"""mkdir -p /w/cgi-bin; hostname > /w/index.html
cat > /w/cgi-bin/said <<'END'
{SAID}END
chmod +x /w/cgi-bin/said
exec busybox httpd -f -p 0.0.0.0:8080 -h /w""",
)
"""A pod's command: it says its name on port 8080, and more of itself there (`Said`)."""
SECONDS = 60.0
ON_NODES = {"coe": "kubernetes", "flavor_id": "small", "master_flavor_id": "medium"}
"""Of a template whose masters are nodes."""
HOSTED = {
    **ON_NODES,
    "master_flavor_id": "small",
    "labels": {"control_plane": "hosted"},
}
"""Of one whose masters are none."""


@cache
def built() -> Path:
    """The directory of what `make kubernetes` builds, once a machine, in minutes."""
    done = subprocess.run([ROOT / "scripts/kubernetes"], stdout=subprocess.PIPE, check=True)
    return Path(done.stdout.decode().split()[-1])


def renamed(version: str, directory: Path) -> Path:
    """The release that is built, with programs that say they are of another `version`.

    Nothing else of them differs: what is tried with it is how a cluster goes from one release
    to another, and not what the other one changes.
    """
    assert len(version) == len(RELEASE)
    made = directory / version
    made.mkdir(parents=True)
    for name in NEEDED:
        program = (built() / name).read_bytes()
        assert RELEASE.encode() in program
        (made / name).write_bytes(program.replace(RELEASE.encode(), version.encode()))
        (made / name).chmod(0o755)
    return made


def published(programs: Path, archive: Path) -> Path:
    """The programs as upstream's server archive has them, and the sum of it beside it."""
    with tarfile.open(archive, "x:gz", compresslevel=1, format=tarfile.GNU_FORMAT) as packed:
        packed.add(programs, "kubernetes/server/bin", recursive=False)
        for name in NEEDED:
            packed.add(programs / name, f"kubernetes/server/bin/{name}")
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha512").hexdigest()
    archive.with_name(f"{archive.name}.sha512").write_text(found)
    return archive


def image() -> bytes:
    """An image of this machine's static busybox, as `docker save` lays it out."""
    layer = _tar({"bin/busybox": Path("/usr/bin/busybox").read_bytes()}, links=("sh", "sleep"))
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/busybox", "sleep", "1000000"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_sum(layer)}"]},
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    return _tar(
        {"manifest.json": json.dumps(manifest).encode(), "config.json": config, "layer.tar": layer}
    )


def _tar(files: dict[str, bytes], links: tuple[str, ...] = ()) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            file = tarfile.TarInfo(name)
            file.size, file.mode = len(data), 0o755
            tar.addfile(file, io.BytesIO(data))
        for name in links:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname, link.mode = tarfile.SYMTYPE, "busybox", 0o777
            tar.addfile(link)
    return packed.getvalue()


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def kubectl_of(shell: Shell, cluster: str, directory: Path, program: Path | None = None) -> Kubectl:
    """With what `openstack coe cluster config` writes into the directory."""
    shell.coe("cluster", "config", cluster, "--dir", str(directory), "--force")
    return Kubectl(program or built() / "kubectl", directory / "config")


async def load(runc: Runc, owner: str, *nodes: str) -> None:
    """Give the nodes of a cluster the image."""
    words = ["ctr", "-n", "k8s.io", "images", "import", "-"]
    for node in nodes:
        done = await runc.run(f"{owner}.{node}", words, stdin=image(), timeout=60.0)
        assert done.returncode == 0, done.stderr.decode()


@dataclass(frozen=True)
class Kubectl:
    """An unmodified kubectl with a kubeconfig."""

    program: Path
    kubeconfig: Path
    token: str = ""
    """Of Keystone's, where the kubeconfig is one that asks for it (`--use-keystone`)."""

    def run(self, *words: str, stdin: str = "", code: int | None = 0) -> str:
        """Its stdout (of a failure, stderr). The exit code must be `code`, unless None."""
        done = subprocess.run(
            [str(self.program), "--kubeconfig", str(self.kubeconfig), *words],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(self.kubeconfig.parent),
                "OS_TOKEN": self.token,
            },
        )
        assert code is None or done.returncode == code, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout if done.returncode == 0 else done.stderr

    def apply(self, *objects: dict[str, Any]) -> None:
        value = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.run("apply", "-f", "-", stdin=json.dumps(value))

    def get(self, *words: str) -> Any:
        return json.loads(self.run("get", *words, "-o", "json"))

    def until(self, done: Callable[[], bool], seconds: float = SECONDS) -> float:
        """Wait for what the API tells of, in seconds; how long that took."""
        began = time.monotonic()
        while not done():
            waited = time.monotonic() - began
            assert waited < seconds, (
                f"not within {seconds} s:\n{self.run('get', 'pods', '-A', '-o', 'wide')}"
            )
            time.sleep(0.1)
        return time.monotonic() - began


@dataclass(frozen=True)
class Said:
    """What a pod that runs SERVE answers: its name, who it saw asking, and its ROUND."""

    pod: str
    peer: str
    round: str


def ask(kubectl: Kubectl, asking: str, address: str) -> Said:
    """The answer that one pod gets of SERVE at an address."""
    url = f"http://{address}:8080/cgi-bin/said"
    told = kubectl.run("exec", asking, "--", "busybox", "wget", "-qO-", url)
    pod, peer, turn = told.split()
    return Said(pod, peer, turn)


@dataclass
class Asking:
    """Clients that ask an API server for one object, again and again, whoever is let in."""

    clients: list[Kubectl]
    path: str
    refused: dict[Kubectl, float] = field(default_factory=dict)
    """Who was turned away, and when: not who found nobody there."""
    pauses: list[float] = field(default_factory=list)
    """Seconds from each answer to the next."""
    _answered: float = 0.0

    @property
    def gap(self) -> float:
        return max(self.pauses)

    def longest(self) -> str:
        return ", ".join(f"{pause:.1f}" for pause in sorted(self.pauses)[:-6:-1])

    @contextmanager
    def without_end(self) -> Iterator[None]:
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                if self._is_answered():
                    self._pause()
                over.wait(0.05)

        self._answered = time.monotonic()
        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._pause()

    def _pause(self) -> None:
        now = time.monotonic()
        self.pauses.append(now - self._answered)
        self._answered = now

    def _is_answered(self) -> bool:
        for client in [each for each in self.clients if each not in self.refused]:
            said = client.run("get", "--raw", self.path, "--request-timeout=2s", code=None)
            if said.startswith("{"):
                return True
            if "x509" in said or "logged in" in said:
                self.refused[client] = time.time()
        return False


def add_release(install: Install) -> None:
    """What is built."""
    install.moorage("release", "add", "kubernetes", str(built()))


def review(admin: Kubectl, token: str) -> dict[str, Any]:
    """What the cluster itself makes of a token."""
    asked = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token},
    }
    told = admin.run("create", "-f", "-", "-o", "json", stdin=json.dumps(asked))
    status: dict[str, Any] = json.loads(told)["status"]
    return status


def pod(name: str, *command: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": IMAGE, "imagePullPolicy": "Never"}
    if command:
        container["command"] = list(command)  # type: ignore[assignment]
    container |= spec.pop("container", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **spec},
    }


def deployment(name: str, replicas: int, *command: str, **spec: Any) -> dict[str, Any]:
    made = pod(name, *command, **spec)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": made["spec"]},
        },
    }


def service(name: str, port: int, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": port}], **spec},
    }
