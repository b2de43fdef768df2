"""What the demo does with a cluster, by an unmodified docker client and nothing else."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from moorage.cli.credentials import Credentials
from moorage.cli.demo_image import TAG
from moorage.cli.failure import Code, Failure

STACK = "web"
SERVICE = f"{STACK}_web"
ENGINE_PORT = 2376
"""Where each node's engine accepts the tenant's certificate."""
PATIENCE = 60.0


def client() -> str:
    """The docker client's path. Raises Failure where there is none."""
    found = shutil.which("docker")
    if found is None:
        raise Failure(
            "there is no docker client: the demo uses a cluster as a tenant would",
            code=Code.NOT_FOUND,
            mend="apt-get install -y --no-install-recommends docker.io",
        )
    return found


@dataclass(frozen=True, slots=True)
class Page:
    """A replica's page: where it was fetched, and the name it gave."""

    url: str
    replica: str


@dataclass(frozen=True, slots=True)
class SwarmNode:
    """A line of `docker node ls`."""

    id: str
    hostname: str
    ready: bool
    manager: bool


@dataclass(frozen=True, slots=True)
class Docker:
    """The docker client, with a tenant's credentials and a configuration of its own."""

    path: str
    credentials: Credentials
    config: Path

    def run(
        self, *words: str, node: str | None = None, stdin: bytes = b"", **more: str
    ) -> subprocess.CompletedProcess[bytes]:
        """`docker WORDS` on the cluster, or on one node's engine (`node`: its address)."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
        address = f"tcp://{node}:{ENGINE_PORT}" if node else None
        own = self.credentials.environment(address) | {"DOCKER_CONFIG": str(self.config)}
        try:
            return subprocess.run(
                [self.path, *words],
                env=inherited | own | more,
                input=stdin,
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Failure(
                f"`docker {' '.join(words)}` did not end within {PATIENCE:.0f} s",
                code=Code.TIMED_OUT,
            ) from None

    def ask(self, *words: str, node: str | None = None, stdin: bytes = b"", **more: str) -> str:
        """What `docker WORDS` prints. Raises Failure where it fails."""
        done = self.run(*words, node=node, stdin=stdin, **more)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise Failure(f"`docker {' '.join(words)}` failed: {said}")
        return done.stdout.decode().strip()

    def load(self, image: bytes, nodes: Iterable[str]) -> list[str]:
        """Load the image where it is not: the addresses of the nodes that got it."""
        got = []
        for node in nodes:
            if self.run("image", "inspect", TAG, node=node).returncode:
                self.ask("load", node=node, stdin=image)
                got.append(node)
        return got

    def image_id(self, node: str) -> str:
        return self.ask("image", "inspect", "--format", "{{.Id}}", TAG, node=node)

    def deploy(self, compose: Path, image_id: str) -> None:
        # By id, so that no engine asks a registry: compose.yaml says more.
        words = ("stack", "deploy", "--resolve-image", "never", "-c", str(compose), STACK)
        self.ask(*words, WEB_IMAGE=image_id)

    def replicas(self) -> tuple[int, int]:
        """How many replicas run, and how many are wanted."""
        line = self.ask("service", "ls", "--filter", f"name={SERVICE}", "--format", "{{.Replicas}}")
        there = re.match(r"(\d+)/(\d+)", line)
        return (int(there[1]), int(there[2])) if there else (0, 0)

    def nodes(self) -> list[SwarmNode]:
        form = "{{.ID}}|{{.Hostname}}|{{.Status}}|{{.ManagerStatus}}"
        rows = [line.split("|") for line in self.ask("node", "ls", "--format", form).splitlines()]
        return [SwarmNode(row[0], row[1], row[2] == "Ready", bool(row[3])) for row in rows]

    def urls(self) -> list[str]:
        """The address of every running replica: its node's, and the port it was given there."""
        running = ("--filter", "desired-state=running")
        tasks = self.ask("service", "ps", SERVICE, "-q", "--no-trunc", *running).split()
        ids = [node.id for node in self.nodes()]
        described = json.loads(self.ask("node", "inspect", *ids))
        address = {node["ID"]: node["Status"]["Addr"] for node in described}
        found = set()
        for task in json.loads(self.ask("inspect", "--type", "task", *tasks)) if tasks else []:
            ports = task["Status"].get("PortStatus", {}).get("Ports") or []
            if task["Status"]["State"] == "running" and task.get("NodeID") in address:
                # One entry for IPv4 and one for IPv6: the same port.
                found |= {f"http://{address[task['NodeID']]}:{p['PublishedPort']}/" for p in ports}
        return sorted(found)


def fetch(url: str) -> Page | None:
    """A replica's page, from outside its cluster; None where it does not answer (yet)."""
    where = url.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(where, timeout=3)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        body = answer.read(65536).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    replica = re.search(r"<b>([\w.-]+)</b>", body)
    return Page(url, replica[1]) if answer.status == 200 and replica else None
