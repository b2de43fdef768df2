"""A cluster's CA is exchanged under load, and nobody is turned away before it is over."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import ssl
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from moorage.drivers.swarm import engine as script
from moorage.drivers.swarm import steps as verbs
from moorage.drivers.swarm.seen import SwarmObserved
from moorage.model.cluster import ClusterSpec, HealthStatus, Rotation
from moorage.model.errors import RetryLater
from moorage.model.ports import CaKeys, KeyPair
from moorage.trust import ClusterAuthority, new_ca
from tests import made
from tests.contract.test_drivers import Site
from tests.real.swarm import shell

pytestmark = pytest.mark.real

OLD, NEW = new_ca("web"), new_ca("web")
BEFORE = ClusterAuthority(CaKeys(OLD))
TRUST = ClusterAuthority(CaKeys(OLD, NEW, Rotation.TRUST))
SERVE = ClusterAuthority(CaKeys(OLD, NEW, Rotation.SERVE))
AFTER = ClusterAuthority(CaKeys(NEW))
PING = b"GET /_ping HTTP/1.1\r\nHost: engine\r\n\r\n"
PAUSE = 0.01
"""Seconds between a client's requests: what is to be loaded is the front, not this machine."""
STEADY = 0.5
"""Seconds of load between two phases."""


@pytest.fixture
def spec() -> ClusterSpec:
    return made.spec(BEFORE, uuid=str(uuid.uuid4()), coe="swarm")


@dataclasses.dataclass
class Tenant:
    """A client's certificate, and what it trusts, in a directory as the docker client reads it."""

    home: Path
    trusts: bytes
    pair: KeyPair

    def __post_init__(self) -> None:
        self.home.mkdir()
        for name, data in (
            ("ca.pem", self.trusts),
            ("cert.pem", self.pair.certificate),
            ("key.pem", self.pair.key),
        ):
            (self.home / name).write_bytes(data)

    @property
    def tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.trusts.decode())
        context.load_cert_chain(self.home / "cert.pem", self.home / "key.pem")
        return context

    async def docker(self, address: str, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            "docker",
            *words,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(self.home),
                "DOCKER_HOST": f"tcp://{address}:2376",
                "DOCKER_TLS_VERIFY": "1",
                "DOCKER_CERT_PATH": str(self.home),
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, address: str, *words: str) -> str:
        process = await self.docker(address, *words)
        async with asyncio.timeout(20.0):
            out, err = await process.communicate()
        if process.returncode:
            raise ConnectionError(f"docker {' '.join(words)}: {err.decode().strip()}")
        return out.decode().strip()


@dataclasses.dataclass
class Load:
    """Clients that ask without end, and what went wrong for them."""

    addresses: list[str]
    failures: list[str] = dataclasses.field(default_factory=list)
    answers: dict[str, int] = dataclasses.field(default_factory=dict)
    tasks: dict[str, list[asyncio.Task[None]]] = dataclasses.field(default_factory=dict)

    def begin(self, name: str, tenant: Tenant, *, kept: bool = True) -> None:
        """On new connections and on a kept one, on each node; and the docker client on one."""
        tls = tenant.tls
        tasks = [self._fresh(name, address, tls) for address in self.addresses]
        if kept:
            tasks += [self._kept(f"{name}, kept", address, tls) for address in self.addresses]
        tasks.append(self._client(f"{name}, docker", self.addresses[-1], tenant))
        self.tasks[name] = [asyncio.create_task(task) for task in tasks]

    async def end(self, *names: str) -> None:
        tasks = [task for name in names or list(self.tasks) for task in self.tasks.pop(name)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fresh(self, name: str, address: str, tls: ssl.SSLContext) -> None:
        while True:
            with self._judged(name):
                async with connected(address, tls) as (reader, writer):
                    await ping(reader, writer)
            await asyncio.sleep(PAUSE)

    async def _kept(self, name: str, address: str, tls: ssl.SSLContext) -> None:
        with contextlib.suppress(OSError):
            async with connected(address, tls) as (reader, writer):
                while True:
                    with self._judged(name):
                        await ping(reader, writer)
                    await asyncio.sleep(PAUSE)

    async def _client(self, name: str, address: str, tenant: Tenant) -> None:
        while True:
            with self._judged(name):
                assert await tenant.run(address, "ps", "-q")
            await asyncio.sleep(10 * PAUSE)

    @contextlib.contextmanager
    def _judged(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, AssertionError) as error:
            self.failures.append(f"{name}: {error!r}")
        else:
            self.answers[name] = self.answers.get(name, 0) + 1


@contextlib.asynccontextmanager
async def connected(
    address: str, tls: ssl.SSLContext
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(5.0):
        reader, writer = await asyncio.open_connection(address, 2376, ssl=tls)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(5.0):
        writer.write(PING)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK"), head
        await reader.readexactly(2)


async def pids(site: Site) -> dict[str, str]:
    return {name: await shell(site, name, "pgrep -o -x dockerd") for name in site.members}


async def goes_to(site: Site, authority: ClusterAuthority) -> None:
    """Every node, by one TRUST and nothing else; a look afterwards finds nothing to do."""
    site.cluster = dataclasses.replace(site.cluster, authority=authority)
    seen, steps = await site.look()
    assert {step.verb for step in steps} == {verbs.TRUST}
    assert {step.node for step in steps} == set(site.members)
    await asyncio.gather(*(site.perform(step) for step in steps))
    seen, steps = await site.look()
    assert steps == []
    assert seen.health.status is HealthStatus.HEALTHY
    assert {seen.revision(name) for name in site.members} == {authority.revision}


async def test_nobody_is_turned_away_while_the_ca_is_exchanged(site: Site, tmp_path: Path) -> None:
    seen = await site.converge()
    addresses = [node.address for node in seen.nodes.values() if node.address]
    master, there = seen.nodes["master-0"].address, seen.nodes["worker-0"].address
    assert master
    assert there
    for name in site.members:
        await shell(site, name, "tar -c -C /usr bin/busybox | docker import - page:1")
        command = "docker run -d --net=none page:1 /bin/busybox sleep 600"
        await shell(site, name, command.replace("-d", "-d --name kept"))
    facts = "docker inspect -f '{{.State.StartedAt}} {{.State.Pid}} {{.RestartCount}}' kept"
    started = {name: await shell(site, name, facts) for name in site.members}
    engines = await pids(site)

    old = Tenant(tmp_path / "old", BEFORE.certificate, BEFORE.client("tenant"))
    events = await old.docker(there, "events", "--format", "{{.Action}}")
    talk = ("exec", "-i", "kept", "/bin/busybox", "sh", "-c", "while read w; do echo got $w; done")
    spoken = await old.docker(there, *talk)
    assert events.stdout
    assert spoken.stdin
    assert spoken.stdout

    async def streams_live(word: str) -> None:
        assert spoken.stdin
        assert spoken.stdout
        assert events.stdout
        spoken.stdin.write(f"{word}\n".encode())
        async with asyncio.timeout(5.0):
            said = await spoken.stdout.readline()
        assert said == f"got {word}\n".encode()
        await shell(site, "worker-0", f"docker rename kept {word}; docker rename {word} kept")
        told = b""
        while told != b"rename\n":
            async with asyncio.timeout(5.0):
                told = await events.stdout.readline()

    load = Load(addresses)
    try:
        load.begin("old certificate, old CA", old)
        await streams_live("before")
        await asyncio.sleep(STEADY)

        await goes_to(site, TRUST)
        load.begin("old certificate, both CAs", Tenant(tmp_path / "2", TRUST.certificate, old.pair))
        await streams_live("trust")
        await asyncio.sleep(STEADY)

        await goes_to(site, SERVE)
        pair = SERVE.client("tenant")
        new = Tenant(tmp_path / "new", NEW.certificate, pair)
        load.begin("new certificate, new CA", new)
        load.begin("new certificate, both CAs", Tenant(tmp_path / "4", SERVE.certificate, pair))
        load.begin("new certificate, old CA", Tenant(tmp_path / "5", OLD.certificate, pair))
        load.begin("old certificate, new CA", Tenant(tmp_path / "6", NEW.certificate, old.pair))
        await streams_live("serve")
        await asyncio.sleep(STEADY)

        assert load.failures == []
        await load.end(*(name for name in load.tasks if "old" in name))
        await goes_to(site, AFTER)
        await streams_live("after")
        await asyncio.sleep(STEADY)
        await load.end()
        assert load.failures == []
        assert len(load.answers) == 6 * 3
        assert min(load.answers.values()) > 0

        for address in addresses:
            for refused in (old, Tenant(tmp_path / address, NEW.certificate, old.pair)):
                with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
                    async with connected(address, refused.tls) as (reader, writer):
                        await ping(reader, writer)
            async with connected(address, new.tls) as (reader, writer):
                await ping(reader, writer)
        with pytest.raises(ConnectionError, match="certificate"):
            await old.run(master, "ps")
        assert "kept" in await new.run(master, "ps")
        spoken.stdin.close()
        async with asyncio.timeout(5.0):
            assert await spoken.wait() == 0
    finally:
        await load.end()
        for process in (events, spoken):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    assert {name: await shell(site, name, facts) for name in site.members} == started
    assert await pids(site) == engines


def interrupted() -> Iterator[str]:
    """The engine's script, killed before each of the steps that change something."""
    lines = script.SCRIPT.splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith("mkdir "))
    for number in range(begin + 1, len(lines)):
        if lines[number][:1].isalpha() and not lines[number].startswith(("fi", "done", "else")):
            yield "\n".join([*lines[:number], "kill -KILL $$", *lines[number:]])


async def test_an_exchange_that_was_killed_at_any_point_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.cluster = made.resized(site.cluster, workers=0)
    await site.converge()
    engines = await pids(site)
    whole, cuts = script.SCRIPT, list(interrupted())
    assert len(cuts) > 10
    phases = itertools.cycle([TRUST, SERVE, AFTER, SERVE, TRUST, BEFORE])
    for cut, authority in zip(cuts, phases, strict=False):
        site.cluster = dataclasses.replace(site.cluster, authority=authority)
        _, steps = await site.look()
        (trust,) = [step for step in steps if step.verb == verbs.TRUST]
        monkeypatch.setattr(script, "SCRIPT", cut)
        with pytest.raises(RetryLater):
            await site.perform(trust)
        monkeypatch.setattr(script, "SCRIPT", whole)
        seen = await site.converge()
        assert isinstance(seen, SwarmObserved)
        assert seen.revision("master-0") == authority.revision
        assert await pids(site) == engines
