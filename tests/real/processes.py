"""Halves of Moorage as processes, on one PostgreSQL: `moorage serve --only`."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from moorage.cli.daemon import probe
from tests.postgres import PostgresServer
from tests.real.install import MOORAGE, Install

READY_SECONDS = 60.0
LEASE = 3


@dataclass
class Server:
    """One process of Moorage. `install` knows its state directory and its port."""

    install: Install
    process: subprocess.Popen[bytes]
    log: Path
    address: str = "127.0.0.1"

    def await_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            if probe(self.address, self.install.port)[0]:
                return
            time.sleep(0.05)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)

    @property
    def turns(self) -> int:
        """How many creates it has seen to their end."""
        return self.log.read_text().count('"created: ')


class Site:
    """What the processes share: a database, a key, a Keystone, and fake nodes as files."""

    def __init__(self, postgres: PostgresServer, name: str, directory: Path) -> None:
        self.postgres = postgres
        self.directory = directory
        self.nodes = directory / "nodes"
        self.variables = {
            "MOORAGE_DATABASE_URL": postgres.url(name),
            "MOORAGE_KEY_FILE": str(directory / "seal.key"),
            "MOORAGE_FAKES": "1",
            "MOORAGE_FAKE_NODES": str(self.nodes),
            "MOORAGE_PROVIDER": "fake",
            "MOORAGE_LEASE_SECONDS": str(LEASE),
            "MOORAGE_HEAL_SECONDS": "5",
            "MOORAGE_QUOTA_CLUSTERS": "100",
        }

    @contextmanager
    def serving(
        self, name: str, only: str, where: Sequence[str] = (), **variables: str
    ) -> Iterator[Server]:
        """`where`: the beginning of a command that runs it elsewhere, as the same process."""
        install = Install(self.directory / name)
        log = self.directory / f"{name}.log"
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("MOORAGE_")},
            **self.variables,
            "MOORAGE_MACHINE": name,
            "MOORAGE_PORT": str(install.port),
            "MOORAGE_METRICS_PORT": str(install.metrics_port),
            "MOORAGE_SIGN_IN_PORT": str(install.sign_in_port),
            "MOORAGE_KEYSTONE_PORT": str(install.keystone_port),
            **variables,
        }
        words = ["serve", "--state", str(install.state), "--only", only]
        with log.open("ab") as stderr:
            process = subprocess.Popen([*where, *MOORAGE, *words], env=environment, stderr=stderr)
        try:
            yield Server(install, process, log, variables.get("MOORAGE_HOST", "127.0.0.1"))
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def owners(self) -> dict[str, int]:
        """How many nodes each cluster has."""
        return {path.name: len(list(path.glob("*.json"))) for path in self.nodes.iterdir()}
