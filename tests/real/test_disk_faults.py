"""A disk that is full, or fails: refused cleanly, nothing lost, and over when it is over.

A real server on a small file system of its own, its log included; strace makes its system
calls fail. Nodes are fakes here: what is tried is the store.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from moorage.identity.home import SERVICE_USER, KeystoneHome
from tests.real.books import known, unsound
from tests.real.install import Answer, Install, Tenant

pytestmark = pytest.mark.real
MIB = 2**20
OVER_SECONDS = 20.0
"""After the fault: a conductor pauses for some seconds before it asks the store again."""
ASKED_SECONDS = 4.0


@dataclass
class Disk:
    """A server on a disk of a few MiB, and what its tenant was told there."""

    install: Install
    tenant: Tenant
    template: str = ""
    granted: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    reasons: set[str] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def create(self) -> Answer:
        """Ask for one more cluster, and note what was answered; and whether reads go on."""
        name = f"c{next(self.numbers)}"
        body = {"name": name, "cluster_template_id": self.template, "node_count": 1}
        answer = self.tenant.ask("POST", "/clusters", body)
        if answer.status == 202:
            self.granted.add(name)
        else:
            assert answer.status == 503, answer
            assert int(answer.headers["retry-after"]) >= 1
            self.refused.add(name)
            self.reasons.add(answer.body["errors"][0]["detail"])
        assert self.tenant.ask("GET", "/clusters").status == 200
        return answer

    def create_until(self, status: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.create().status != status:
            assert time.monotonic() < deadline, (self.reasons, self.install.log()[-3000:])

    def check(self) -> None:
        """Whatever was granted is there, and becomes complete; whatever is there is whole."""
        deadline = time.monotonic() + OVER_SECONDS + 30  # a lease of a turn that could not write
        while True:
            found = {c.name: c for c in known(self.install)}
            if all(c.status.complete for c in found.values()):
                break
            assert time.monotonic() < deadline, [c for c in found.values() if not c.status.complete]
            time.sleep(0.2)
        assert self.granted <= found.keys() <= self.granted | self.refused
        assert unsound(self.install) == []
        stats = self.tenant.ask("GET", "/stats?type=all").body
        assert (stats["clusters"], stats["nodes"]) == (len(found), 2 * len(found))
        for cluster in found.values():
            path = f"/clusters/{cluster.uuid}/events?limit=1000"
            first = self.tenant.ask("GET", path).body["events"][0]
            assert (first["kind"], first["what"][:7]) == ("request", "create:")

    def clean(self) -> None:
        for cluster in known(self.install):
            assert self.tenant.ask("DELETE", f"/clusters/{cluster.uuid}").status == 204
        deadline = time.monotonic() + 30
        while known(self.install):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for told in (self.granted, self.refused, self.reasons):
            told.clear()


@pytest.fixture(scope="module")
def disk() -> Iterator[Disk]:
    with tempfile.TemporaryDirectory(prefix="moorage-test-", dir="/var/tmp") as directory:
        home = Path(directory)
        home.chmod(0o711)
        other = Install(home / "keystone")
        install = Install(home / "state", keystone_port=other.keystone_port)
        install.state.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m,mode=711", "none", install.state], check=True
        )
        try:
            other.up()
            install.keystone = f"http://127.0.0.1:{other.keystone_port}/v3"
            install.variables |= {
                "MOORAGE_KEYSTONE_PASSWORD": KeystoneHome(other.state).password(SERVICE_USER),
                "MOORAGE_FAKES": "1",
                "MOORAGE_PROVIDER": "fake",
                "MOORAGE_QUOTA_CLUSTERS": "-1",
                "MOORAGE_QUOTA_NODES": "-1",
                "MOORAGE_QUOTA_CPUS": "-1",
                "MOORAGE_QUOTA_MEMORY_MIB": "-1",
                "MOORAGE_QUOTA_DISK_GIB": "-1",
            }
            install.up()
            made = Disk(install, replace(other.tenant("red"), install=install))
            made.template = made.tenant.make_template("fake", coe="fake")
            yield made
        finally:
            with contextlib.suppress(AssertionError):
                install.down()
            subprocess.run(["umount", install.state], check=True)
            install.purge()
            other.purge()


def fill(ballast: Path) -> None:
    """Take all the room that is left on the disk."""
    with ballast.open("ab", buffering=0) as file:
        for size in (MIB, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


def test_a_full_disk(disk: Disk) -> None:
    ballast = disk.install.state / "ballast"
    disk.create_until(202, 1)
    fill(ballast)
    try:
        disk.create_until(503, 30)  # what the journal has room for is still taken
        for _ in range(20):
            disk.create()
        assert disk.reasons == {"The disk that holds the database is full."}
        (first, *_) = disk.granted
        assert disk.tenant.ask("GET", f"/clusters/{first}").status == 200
        patch = [{"op": "replace", "path": "/node_count", "value": 2}]
        assert disk.tenant.ask("PATCH", f"/clusters/{first}", patch).status == 503
    finally:
        ballast.unlink()
    disk.create_until(202, OVER_SECONDS)
    disk.check()
    assert "log lines were lost" in disk.install.log()
    assert '"exception"' not in disk.install.log(), "no traceback for what is no bug"
    disk.install.kill()
    disk.install.up()
    disk.check()
    disk.clean()


@pytest.mark.parametrize(
    ("call", "error", "when"),
    [
        # A turn that can't write leaves its cluster alone for the rest of its lease, 30 s.
        ("fdatasync", "EIO", "1+"),
        pytest.param("pwrite64", "ENOSPC", "2+3", marks=pytest.mark.slow),
        pytest.param("pwrite64", "EIO", "1+", marks=pytest.mark.slow),
        pytest.param("fdatasync", "EIO", "1+2", marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_fails(disk: Disk, call: str, error: str, when: str) -> None:
    disk.create_until(202, 5)
    with failing(disk.install.server_pid(), call, error, when):
        disk.create_until(503, 30)
        deadline = time.monotonic() + ASKED_SECONDS
        while time.monotonic() < deadline:
            disk.create()
    disk.create_until(202, OVER_SECONDS)
    full = {"The disk that holds the database is full."}
    assert disk.reasons == (
        full if error == "ENOSPC" else {"The disk that holds the database fails."}
    )
    disk.check()
    disk.install.kill()
    disk.install.up()
    disk.check()
    disk.clean()


@contextlib.contextmanager
def failing(pid: int, call: str, error: str, when: str) -> Iterator[None]:
    """Make the process's system calls of that name fail: the first, every third, …"""
    argv = ["strace", "-f", "-q", "-p", str(pid), "-e", f"trace={call}", "-o", "/dev/null"]
    argv += ["-e", f"inject={call}:error={error}:when={when}"]
    tracer = subprocess.Popen(argv, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 5
        while any(traced(task) != tracer.pid for task in Path(f"/proc/{pid}/task").iterdir()):
            assert tracer.poll() is None, tracer.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield
    finally:
        tracer.send_signal(signal.SIGINT)  # it lets go of the process
        tracer.communicate(timeout=10)


def traced(task: Path) -> int:
    """Who traces the thread; 0: nobody."""
    for line in (task / "status").read_text().splitlines():
        if line.startswith("TracerPid:"):
            return int(line.partition(":")[2])
    return 0
