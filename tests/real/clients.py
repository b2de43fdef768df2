"""Clients that we didn't write, each in an environment of its own, run as their users run them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.real.install import Tenant

ROOT = Path(__file__).parents[2]
OPENSTACK = ROOT / ".venv-clients" / "bin" / "openstack"
MAGNUM = ROOT / ".venv-old-client" / "bin" / "magnum"
SDK = ROOT / ".venv-sdk" / "bin" / "python"
KUBERNETES = ROOT / ".venv-kubernetes"
NEWEST_KUBECTL = KUBERNETES / "bin" / "kubectl"
SECONDS = 120


@dataclass
class Shell:
    """A user's shell, with a clouds.yaml that names the tenant."""

    tenant: Tenant
    home: Path
    ran: list[str] = field(default_factory=list)
    """Every `openstack coe` command line, in order."""

    def __post_init__(self) -> None:
        self.tenant.install.save_cloud(self.clouds, self.tenant.credentials)

    @property
    def clouds(self) -> Path:
        return self.home / "clouds.yaml"

    def coe(self, *words: str, code: int = 0) -> str:
        """`openstack coe …`: its whole output."""
        self.ran.append(" ".join(words))
        return self.run(OPENSTACK, "--os-cloud", "tenant", "coe", *words, code=code)

    def shown(self, *words: str) -> Any:
        """What `openstack coe …` shows, as JSON."""
        return json.loads(self.coe(*words, "-f", "json"))

    def magnum(self, *words: str, code: int = 0) -> str:
        """`magnum …`, the command line of before `openstack coe`."""
        of = self.tenant.credentials
        named = {
            "OS_AUTH_URL": of.auth_url,
            "OS_USERNAME": of.username,
            "OS_PASSWORD": of.password,
            "OS_PROJECT_NAME": of.project_name,
            "OS_USER_DOMAIN_ID": "default",
            "OS_PROJECT_DOMAIN_ID": "default",
        }
        return self.run(MAGNUM, *words, code=code, env=named)

    def python(self, script: str, *words: str) -> Any:
        """A script for openstacksdk, which prints JSON."""
        return json.loads(self.run(SDK, "-c", script, *words))

    def docker(self, exported: str, *words: str) -> list[str]:
        """`docker …` with what a `config` command printed for it."""
        environment = dict(
            line.removeprefix("export ").split("=", 1)
            for line in exported.splitlines()
            if line.startswith("export ")
        )
        return self.run(Path("docker"), *words, env=environment).split()

    def run(
        self, program: Path, *words: str, code: int = 0, env: dict[str, str] | None = None
    ) -> str:
        done = subprocess.run(
            [str(program), *words],
            env={
                **os.environ,
                "OS_CLIENT_CONFIG_FILE": str(self.clouds),
                "HOME": str(self.home),
                "SHELL": "/bin/sh",
                **(env or {}),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout + (done.stderr if program == OPENSTACK else "")


def of_1_20(directory: Path) -> Path:
    """The directory, with `kubectl` 1.20.0 and `helm` in it, as upstream built them.

    They come in a package of AWS's, two archives deep.
    """
    (packed,) = KUBERNETES.glob("lib/python*/site-packages/aws_cdk/asset_kubectl_v20/_jsii/*.tgz")
    with tarfile.open(packed) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            for name in ("kubectl", "helm"):
                (directory / name).write_bytes(inner.read(f"{name}/{name}"))
                (directory / name).chmod(0o755)
    return directory


def python_kubernetes(script: str, *words: str) -> Any:
    """A script for Kubernetes' library for Python, which prints JSON."""
    done = subprocess.run(
        [KUBERNETES / "bin" / "python", "-c", script, *words],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def cell(table: str, name: str) -> str:
    """A field of an object that a client has drawn as a table."""
    found = (line.split("|") for line in table.splitlines() if line.startswith("| "))
    return next(parts[2].strip() for parts in found if parts[1].strip() == name)


def column(table: str, number: int) -> list[str]:
    """A column of the rows of a list that a client has drawn as a table."""
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [line.split("|")[number].strip() for line in lines[1:]]
