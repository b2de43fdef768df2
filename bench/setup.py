"""What the benchmarks measure on: an install of its own, and a client that keeps its connection."""

from __future__ import annotations

import contextlib
import http.client
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.real.install import Install, Tenant

SCALE = {
    "MOORAGE_FAKES": "1",
    "MOORAGE_QUOTA_CLUSTERS": "-1",
    "MOORAGE_QUOTA_NODES": "-1",
    "MOORAGE_QUOTA_TEMPLATES": "-1",
    "MOORAGE_QUOTA_CPUS": "-1",
    "MOORAGE_QUOTA_MEMORY_MIB": "-1",
    "MOORAGE_QUOTA_DISK_GIB": "-1",
    "MOORAGE_TOKEN_CACHE_SECONDS": "300",
    "MOORAGE_RATE": "0",
}
"""Variables of an install that is not to be in its own way."""


@contextlib.contextmanager
def opened(variables: dict[str, str] | None = None) -> Iterator[Install]:
    """An install that is up, in a directory of its own; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="moorage-bench-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o711)
        install = Install(Path(directory) / "state")
        if variables is not None:
            install.variables = variables
        try:
            install.up()
            yield install
        finally:
            install.purge()


class Asker:
    """One connection that stays open, with a token."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        if not tenant.token:
            tenant.token = tenant.install.token(tenant.credentials)
        self._connection = http.client.HTTPConnection("127.0.0.1", tenant.install.port, timeout=30)

    def get(self, path: str) -> Any:
        """The answer's JSON; None for 404."""
        self._connection.request("GET", f"/v1{path}", headers={"X-Auth-Token": self.tenant.token})
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise RuntimeError(f"GET {path}: {answer.status} {body!r}")
        return json.loads(body)


def until_made(tenant: Tenant, uuid: str, pause: float) -> None:
    """Ask for the cluster every `pause` seconds. Raises RuntimeError where it fails."""
    asker = Asker(tenant)
    while (shown := asker.get(f"/clusters/{uuid}"))["status"] != "CREATE_COMPLETE":
        if shown["status"] == "CREATE_FAILED":
            raise RuntimeError(shown["status_reason"])
        time.sleep(pause)


def delete(tenant: Tenant, uuid: str, pause: float) -> None:
    """And wait until it is gone, on a new connection: the server ends those that nobody uses."""
    tenant.ask("DELETE", f"/clusters/{uuid}")
    asker = Asker(tenant)
    while asker.get(f"/clusters/{uuid}") is not None:
        time.sleep(pause)
