"""A whole Moorage on this machine, for one test: its own state directory and ports."""

from __future__ import annotations

import asyncio
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

from moorage.cli.daemon import Home, running
from moorage.clients.keystone import Credentials
from moorage.identity.clouds import save_cloud
from moorage.identity.embedded import EmbeddedKeystone, KeystoneSpec
from moorage.identity.tenants import ensure_tenant
from moorage.settings import Settings

MOORAGE = (sys.executable, "-m", "moorage.cli.main")
DONE_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Answer:
    status: int
    body: Any
    headers: dict[str, str]


@dataclass
class Tenant:
    """A user in a project, asking the API."""

    install: Install
    credentials: Credentials
    token: str = ""

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request to `/v1…`, with a token and the newest version."""
        if not self.token:
            self.token = self.install.token(self.credentials)
        return self.install.ask(
            *(method, path, body),
            **({"X-Auth-Token": self.token, "OpenStack-API-Version": VERSION} | headers),
        )

    def make_template(self, name: str = "swarm", **fields: Any) -> str:
        body = {"name": name, "coe": "swarm", "flavor_id": "tiny", "master_flavor_id": "tiny"}
        answer = self.ask("POST", "/clustertemplates", body | fields)
        assert answer.status == 201, answer
        uuid: str = answer.body["uuid"]
        return uuid

    def create(self, name: str, *, template: str, workers: int = 1, masters: int = 1) -> str:
        body = {"name": name, "cluster_template_id": template}
        body |= {"node_count": workers, "master_count": masters}  # type: ignore[dict-item]
        answer = self.ask("POST", "/clusters", body)
        assert answer.status == 202, answer
        uuid: str = answer.body["uuid"]
        return uuid

    def cluster(self, uuid: str) -> dict[str, Any]:
        answer = self.ask("GET", f"/clusters/{uuid}")
        assert answer.status == 200, answer
        shown: dict[str, Any] = answer.body
        return shown

    def until(
        self, uuid: str, done: Callable[[dict[str, Any]], bool], seconds: float = DONE_SECONDS
    ) -> dict[str, Any]:
        """The cluster once `done` says so; the API has no events to wait for."""
        deadline = time.monotonic() + seconds
        while True:
            shown = self.cluster(uuid)
            if done(shown):
                return shown
            assert time.monotonic() < deadline, f"not within {seconds} s: {shown}"
            time.sleep(0.05)

    def until_complete(self, uuid: str, seconds: float = DONE_SECONDS) -> dict[str, Any]:
        def done(shown: dict[str, Any]) -> bool:
            assert not shown["status"].endswith("_FAILED"), shown
            return bool(
                shown["status"].endswith("_COMPLETE") and shown["health_status"] == "HEALTHY"
            )

        return self.until(uuid, done, seconds)

    def until_gone(self, uuid: str, seconds: float = DONE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while (answer := self.ask("GET", f"/clusters/{uuid}")).status != 404:
            assert time.monotonic() < deadline, f"not gone within {seconds} s: {answer.body}"
            time.sleep(0.05)

    def docker(self, uuid: str, directory: Path) -> dict[str, str]:
        """The environment of an unmodified docker client, with certificates from the API."""
        clouds = directory / "clouds.yaml"
        if not clouds.exists():
            self.install.save_cloud(clouds, self.credentials)
        target = directory / uuid
        self.install.moorage(
            *("cluster", "config", uuid, "--dir", str(target)),
            *("--os-cloud", "tenant"),
            env={"OS_CLIENT_CONFIG_FILE": str(clouds)},
        )
        address = self.cluster(uuid)["api_address"]
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "DOCKER_HOST": address,
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(target),
        }


VERSION = "container-infra latest"


@dataclass
class Install:
    state: Path
    port: int = field(default_factory=free_port)
    keystone_port: int = field(default_factory=free_port)
    variables: dict[str, str] = field(
        default_factory=lambda: {
            "MOORAGE_HEAL_SECONDS": "2",
            "MOORAGE_TOKEN_CACHE_SECONDS": "2",
            "MOORAGE_QUOTA_NODES": "16",
            "MOORAGE_RATE": "0",  # tests ask as fast as they can
        }
    )
    keystone: str | None = None
    """That of another install, at the same port; None: its own, which lives and dies with it."""
    metrics_port: int = field(default_factory=free_port)
    sign_in_port: int = field(default_factory=free_port)

    @property
    def settings(self) -> Settings:
        return Settings(
            state=self.state,
            port=self.port,
            keystone_port=self.keystone_port,
            sign_in_port=self.sign_in_port,
            heal_seconds=2,
        )

    @property
    def database(self) -> Path:
        return self.state / "moorage.db"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def moorage(self, *words: str, env: dict[str, str] | None = None, code: int = 0) -> str:
        """Run the command line; its stdout. The exit code must be `code`."""
        done = subprocess.run(
            [*MOORAGE, *words],
            env={
                **os.environ,
                "MOORAGE_STATE": str(self.state),
                "MOORAGE_METRICS_PORT": str(self.metrics_port),
                "MOORAGE_SIGN_IN_PORT": str(self.sign_in_port),
                **(env or {}),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def refusal(self, *words: str) -> str:
        """Run the command line, which is to fail with code 1; its stderr."""
        done = subprocess.run(
            [*MOORAGE, *words],
            env={**os.environ, **self.variables, "MOORAGE_STATE": str(self.state)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stderr

    def up(self) -> None:
        keystone = ("--keystone", self.keystone) if self.keystone else ()
        self.moorage(
            *("up", "--port", str(self.port), "--keystone-port", str(self.keystone_port)),
            *keystone,
            env=self.variables,
        )

    def down(self) -> None:
        self.moorage("down")

    def purge(self) -> None:
        self.moorage("down", "--purge", "--yes")
        shutil.rmtree(self.state, ignore_errors=True)

    def server_pid(self) -> int:
        process = running(Home(self.state))
        assert process is not None, "the server is not up"
        return process.pid

    def kill(self) -> None:
        """SIGKILL the server; return when it is gone."""
        handle = os.pidfd_open(self.server_pid())
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            assert _readable(handle, 10), "SIGKILL did not end it"
        finally:
            os.close(handle)

    def log(self) -> str:
        return (self.state / "log" / "moorage.log").read_text()

    def tenant(self, project: str, user: str | None = None, role: str = "member") -> Tenant:
        admin = EmbeddedKeystone(self._spec()).admin()
        user = user or f"{project}-{role}"
        making = ensure_tenant(admin, project=project, user=user, password=f"{user}-pw", role=role)
        return Tenant(self, asyncio.run(making))

    def admin(self) -> Tenant:
        return Tenant(self, EmbeddedKeystone(self._spec()).admin())

    def token(self, credentials: Credentials) -> str:
        scope = {"project": {"name": credentials.project_name, "domain": {"id": "default"}}}
        user = {
            "name": credentials.username,
            "password": credentials.password,
            "domain": {"id": "default"},
        }
        identity = {"methods": ["password"], "password": {"user": user}}
        body = {"auth": {"identity": identity, "scope": scope}}
        url = f"http://127.0.0.1:{self.keystone_port}/v3/auth/tokens"
        answer = _request("POST", url, body, {})
        assert answer.status == 201, answer
        return answer.headers["x-subject-token"]

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        return _request(method, self.url + path, body, headers)

    def ask_keystone(self, method: str, path: str, token: str, body: Any = None) -> Answer:
        """One request to Keystone's `/v3…`; where it is about a token, about the asker's own."""
        url = f"http://127.0.0.1:{self.keystone_port}/v3{path}"
        headers = {"X-Auth-Token": token, "X-Subject-Token": token}
        return _request(method, url, body, headers)

    def save_cloud(self, path: Path, credentials: Credentials) -> None:
        save_cloud(path, "tenant", credentials)

    def _spec(self) -> KeystoneSpec:
        return KeystoneSpec(
            state=self.state,
            host="127.0.0.1",
            port=self.keystone_port,
            public_host="127.0.0.1",
            container_infra_url=self.url,
        )


def _request(method: str, url: str, body: Any, headers: dict[str, str]) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, data, method=method)
    request.add_header("Content-Type", "application/json")
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            request, timeout=30
        ) as answer:
            return Answer(answer.status, _parsed(answer.read()), _lower(answer.headers))
    except urllib.error.HTTPError as error:
        return Answer(error.code, _parsed(error.read()), _lower(error.headers))


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data) if data else None
    except ValueError:
        return data.decode(errors="replace")


def _readable(handle: int, seconds: float) -> bool:
    return bool(select.select([handle], [], [], seconds)[0])
