"""A PostgreSQL for the tests: of Debian's package, private, on a port of its own, gone at the end.

To start it takes a second, to make a database in it a third of one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

READY_SECONDS = 30.0
USER = "moorage"
# No answer of these tests has to survive a power cut.
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=60")


class PostgresServer:
    """`postgres` over `directory`, as a child of this process, with which it dies.

    Whoever may reach `address` may ask it, with the password.
    """

    def __init__(
        self,
        binaries: Path,
        directory: Path,
        *,
        durable: bool = False,
        address: str = "127.0.0.1",
    ) -> None:
        self._address = address
        self._settings = ("max_connections=60",) if durable else FAST
        self._binaries = binaries
        self._directory = directory
        self._data = directory / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self.password = secrets.token_hex(8)
        self.port = _free_port()

    def make(self) -> None:
        """Lay the data directory out; only passwords open it over TCP."""
        secret = self._directory / "password"
        secret.write_text(self.password)
        self._directory.chmod(0o755)
        if os.geteuid() == 0:
            for path in (self._directory, secret):
                shutil.chown(path, "postgres", "postgres")
        self._run(
            *("initdb", "--pgdata", str(self._data), "--username", USER, "--no-sync"),
            *("--pwfile", str(secret), "--encoding", "UTF8", "--locale", "C"),
            *("--auth-local", "trust", "--auth-host", "scram-sha-256"),
        )
        with (self._data / "pg_hba.conf").open("a") as allowed:
            allowed.write("host all all samenet scram-sha-256\n")

    def start(self) -> None:
        settings = (f"port={self.port}", f"listen_addresses={self._address}", *self._settings)
        log = self._directory / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *_as_its_user(),
                    *(str(self._binaries / "postgres"), "-D", str(self._data)),
                    *("-k", str(self._directory)),
                    *(word for setting in settings for word in ("-c", setting)),
                ],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.02)  # it tells nobody when it is ready

    def stop(self) -> None:
        """At once, connections or not."""
        if self._process is not None:
            process, self._process = self._process, None
            process.send_signal(signal.SIGINT)  # a "fast shutdown"
            process.wait(timeout=READY_SECONDS)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """All its processes are stopped: the kernel takes what is sent, and nobody answers."""
        assert self._process is not None
        postmaster = self._process.pid
        stopped = [postmaster]
        os.kill(postmaster, signal.SIGSTOP)  # first: it starts no more of them
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children")
        stopped += [int(child) for child in children.read_text().split()]
        try:
            for process in stopped[1:]:
                os.kill(process, signal.SIGSTOP)
            yield
        finally:
            for process in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    def url(self, database: str, *, password: str | None = None) -> str:
        secret = self.password if password is None else password
        return f"postgresql://{USER}:{secret}@{self._address}:{self.port}/{database}"

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run it as the superuser; the answer's rows as psql prints them."""
        done = self._run(
            *("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"),
            *("--host", str(self._directory), "--port", str(self.port), "--username", USER),
            *("--command", statement, database),
        )
        return done.strip()

    @contextmanager
    def database(self) -> Iterator[str]:
        """A new one, empty: its name."""
        name = f"t{secrets.token_hex(6)}"
        self.sql(f"CREATE DATABASE {name}")
        try:
            yield name
        finally:
            self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def _is_ready(self) -> bool:
        asked = [str(self._binaries / "pg_isready"), "-q", "-h", str(self._directory)]
        return subprocess.run([*asked, "-p", str(self.port)], check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [*_as_its_user(), str(self._binaries / program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",  # the one directory that its user can surely enter
            env={**os.environ, "PGOPTIONS": "-c lock_timeout=10s"},
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr}")
        return done.stdout


@contextmanager
def private_server(
    *, durable: bool = False, address: str = "127.0.0.1"
) -> Iterator[PostgresServer]:
    """Skips the test where the package is missing. `durable`: it syncs, as the real ones do."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not binaries:
        pytest.skip("the package postgresql is not installed (scripts/packages installs it)")
    with tempfile.TemporaryDirectory(prefix="moorage-postgres-") as directory:
        server = PostgresServer(
            binaries[-1].parent, Path(directory), durable=durable, address=address
        )
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _as_its_user() -> list[str]:
    """PostgreSQL refuses to be root. Whatever ends this process ends the server too."""
    die_with_us = ["setpriv", "--pdeathsig", "INT"]
    if os.geteuid() != 0:
        return die_with_us
    return [*die_with_us, "--reuid", "postgres", "--regid", "postgres", "--init-groups"]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
