"""The embedded Keystone itself: made once, killed anywhere, never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import psutil
import pytest

from moorage.clients.keystone import Credentials, KeystoneClient
from moorage.identity.embedded import EmbeddedKeystone, KeystoneSpec
from moorage.identity.tenants import ensure_tenant
from moorage.identity.validator import KeystoneValidator
from moorage.model.caller import Permission
from moorage.model.errors import Forbidden, Refused, RetryLater, Unauthenticated

pytestmark = pytest.mark.real

PASSWORD = "not-a-secret-here"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def spec_for(state: Path) -> KeystoneSpec:
    return KeystoneSpec(state, "127.0.0.1", free_port(), "127.0.0.1", "http://cloud:9511/v1")


def servers(state: Path) -> list[psutil.Process]:
    """Every process that has this state directory in its argv."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        argv = process.info["cmdline"] or []
        if "moorage.identity.server" in argv and str(state) in argv:
            found.append(process)
    return found


async def gone(state: Path) -> bool:
    _, alive = await asyncio.to_thread(psutil.wait_procs, servers(state), 5)
    return not alive and not servers(state)


def passwords(state: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in state.rglob("*.password")}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for process in servers(tmp_path):
        process.kill()
        process.wait(5)


@pytest.fixture
async def keystone(state: Path) -> AsyncIterator[EmbeddedKeystone]:
    """One of the test's own."""
    made = EmbeddedKeystone(spec_for(state))
    await made.start()
    yield made
    await made.stop()
    assert servers(state) == []


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKeystone]:
    """One for all the tests that do it no harm, started as an operator might by hand."""
    state = tmp_path_factory.mktemp("keystone")
    spec = spec_for(state)
    argv = [
        *(sys.executable, "-m", "moorage.identity.server", "--state", str(state)),
        *("--port", str(spec.port), "--identity-url", spec.identity_url),
        *("--container-infra-url", spec.container_infra_url),
    ]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield EmbeddedKeystone(spec)
        process.terminate()
        assert process.wait(5) == -signal.SIGTERM
    finally:
        end(process)
    assert servers(state) == []


@pytest.fixture
async def alice(shared: EmbeddedKeystone) -> Credentials:
    name = f"alice-{uuid.uuid4().hex[:8]}"
    return await ensure_tenant(shared.admin(), project="ours", user=name, password=PASSWORD)


async def catalogue(credentials: Credentials) -> dict[str, set[str]]:
    """The URLs of each type of service, as the token's catalogue has them."""
    async with aiohttp.ClientSession() as http, KeystoneClient(credentials) as client:
        headers = {"X-Auth-Token": await client.token()}
        async with http.get(f"{credentials.auth_url}/auth/catalog", headers=headers) as answer:
            services = (await answer.json())["catalog"]
    return {s["type"]: {endpoint["url"] for endpoint in s["endpoints"]} for s in services}


async def test_tokens_of_a_tenant(shared: EmbeddedKeystone, alice: Credentials) -> None:
    """What Keystone says is what the validator believes, for `cache_seconds` and no longer."""
    async with KeystoneClient(shared.service()) as ours, KeystoneClient(alice) as theirs:
        validator = KeystoneValidator(ours, cache_seconds=1.0)
        token = await theirs.token()
        caller = await validator.validate(token)
        assert (caller.user_name, caller.project_name) == (alice.username, "ours")
        assert caller.permission is Permission.MEMBER
        for forged in ("gAAAAABm", token[:-4] + "AAAA", "x"):
            with pytest.raises(Unauthenticated):
                await validator.validate(forged)

        async with aiohttp.ClientSession() as http:
            url = f"{alice.auth_url}/auth/tokens"
            headers = {"X-Auth-Token": token, "X-Subject-Token": token}
            async with http.delete(url, headers=headers) as answer:
                assert answer.status == 204
        assert await validator.validate(token) is caller, "believed for a while"
        await asyncio.sleep(1.05)
        with pytest.raises(Unauthenticated):
            await validator.validate(token)


async def test_the_role_of_publishers_is_there_to_be_given(
    shared: EmbeddedKeystone, alice: Credentials
) -> None:
    async with KeystoneClient(shared.service()) as ours:
        validator = KeystoneValidator(ours, cache_seconds=0)
        for role, may in (("member", False), ("publisher", True)):
            given = await ensure_tenant(
                shared.admin(), project="ours", user=alice.username, password=PASSWORD, role=role
            )
            async with KeystoneClient(given) as theirs:
                caller = await validator.validate(await theirs.token())
            assert caller.may_publish is may
            assert caller.permission is Permission.MEMBER


async def test_a_user_is_deleted(shared: EmbeddedKeystone, alice: Credentials) -> None:
    async with (
        KeystoneClient(shared.service()) as ours,
        KeystoneClient(alice) as theirs,
        KeystoneClient(shared.admin()) as admin,
    ):
        validator = KeystoneValidator(ours, cache_seconds=0.0)
        token = await theirs.token()
        caller = await validator.validate(token)
        async with aiohttp.ClientSession() as http:
            url = f"{alice.auth_url}/users/{caller.user_id}"
            async with http.delete(url, headers={"X-Auth-Token": await admin.token()}) as answer:
                assert answer.status == 204
        with pytest.raises(Unauthenticated):
            await validator.validate(token)


async def test_a_token_for_no_project(shared: EmbeddedKeystone, alice: Credentials) -> None:
    user = {"name": alice.username, "domain": {"id": "default"}, "password": PASSWORD}
    identity = {"methods": ["password"], "password": {"user": user}}
    body = {"auth": {"identity": identity, "scope": "unscoped"}}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{alice.auth_url}/auth/tokens", json=body) as answer,
        KeystoneClient(shared.service()) as ours,
    ):
        token = answer.headers["X-Subject-Token"]
        with pytest.raises(Forbidden, match="not for a project"):
            await KeystoneValidator(ours).validate(token)


async def test_the_service_user_can_do_no_more_than_validate(
    shared: EmbeddedKeystone, alice: Credentials
) -> None:
    async with KeystoneClient(shared.service()) as ours:
        with pytest.raises(Refused):
            await ours.ensure_user("mallory", PASSWORD)


async def test_a_tenant_s_password_is_changed(shared: EmbeddedKeystone, alice: Credentials) -> None:
    changed = await ensure_tenant(
        shared.admin(), project="ours", user=alice.username, password="another-one"
    )
    async with KeystoneClient(changed) as theirs, KeystoneClient(shared.service()) as ours:
        assert await ours.show_token(await theirs.token()) is not None
    async with KeystoneClient(alice) as stale:
        with pytest.raises(Unauthenticated):
            await stale.token()


async def test_a_second_start_keeps_all_and_makes_nothing(
    keystone: EmbeddedKeystone, state: Path
) -> None:
    alice = await ensure_tenant(keystone.admin(), project="ours", user="alice", password=PASSWORD)
    async with KeystoneClient(keystone.service()) as ours, KeystoneClient(alice) as theirs:
        token = await theirs.token()
        before = passwords(state)
        stamp = (state / "keystone" / "bootstrapped").stat().st_mtime_ns
        await keystone.stop()
        with pytest.raises(RetryLater):
            await ours.show_token(token)
        await keystone.start()
        assert await ours.show_token(token) is not None, "tokens live through a restart"
        assert (state / "keystone" / "bootstrapped").stat().st_mtime_ns == stamp
        assert passwords(state) == before
    assert (state / "keystone").stat().st_mode & 0o777 == 0o700


async def test_the_catalogue_follows_the_public_url(state: Path) -> None:
    spec = spec_for(state)
    first = EmbeddedKeystone(spec)
    await first.start()
    try:
        assert await catalogue(first.admin()) == {
            "identity": {spec.identity_url},
            "container-infra": {"http://cloud:9511/v1"},
        }
    finally:
        await first.stop()
    moved = replace(spec, public_host="localhost", container_infra_url="http://moved:9511/v1")
    second = EmbeddedKeystone(moved)
    await second.start()
    try:
        assert await catalogue(second.admin()) == {
            "identity": {f"http://localhost:{spec.port}/v3"},
            "container-infra": {"http://moved:9511/v1"},
        }
    finally:
        await second.stop()


async def test_lost_password_files_are_made_anew(state: Path) -> None:
    keystone = EmbeddedKeystone(spec_for(state))
    await keystone.start()
    await keystone.stop()
    for path in passwords(state):
        path.unlink()
    await keystone.start()
    try:
        for credentials in (keystone.service(), keystone.admin()):
            async with KeystoneClient(credentials) as client:
                assert await client.show_token(await client.token()) is not None
    finally:
        await keystone.stop()


@pytest.mark.parametrize("moment", ["schema", "users"])
async def test_killed_during_the_bootstrap(state: Path, moment: str) -> None:
    """Killed while it makes its tables, or after them and before all users are there."""
    spec = spec_for(state)
    first = EmbeddedKeystone(spec)
    starting = asyncio.create_task(first.start())
    database = state / "keystone" / "keystone.db"
    while not reached(database, moment):
        assert not starting.done(), "it was through before we looked"
        await asyncio.sleep(0.001)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    with pytest.raises(Refused, match="does not start"):
        await starting
    assert not (state / "keystone" / "bootstrapped").exists()
    second = EmbeddedKeystone(spec)
    await second.start()
    try:
        async with KeystoneClient(second.service()) as client:
            assert await client.show_token(await client.token()) is not None
        assert "container-infra" in await catalogue(second.admin())
    finally:
        await second.stop()


def reached(database: Path, moment: str) -> bool:
    if not database.exists():
        return False
    table = "SELECT count(*) FROM sqlite_master WHERE type = 'table'"
    try:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        try:
            if moment == "schema":
                return bool(connection.execute(table).fetchone()[0])
            return bool(connection.execute("SELECT count(*) FROM project").fetchone()[0] > 1)
        finally:
            connection.close()
    except sqlite3.Error:
        return False


PARENT = """
import asyncio, json, sys
from pathlib import Path
from moorage.identity.embedded import EmbeddedKeystone, KeystoneSpec

async def main():
    state, port = Path(sys.argv[1]), int(sys.argv[2])
    keystone = EmbeddedKeystone(KeystoneSpec(state, "127.0.0.1", port, "127.0.0.1", "http://c/v1"))
    await keystone.start()
    heavy = [name for name in sys.modules if name.split(".")[0] in {"keystone", "oslo_config"}]
    print(json.dumps({"pid": keystone.pid, "heavy": heavy}), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def parent_of(state: Path) -> subprocess.Popen[bytes]:
    """A process that starts a Keystone, says so, and waits."""
    argv = [sys.executable, "-c", PARENT, str(state), str(free_port())]
    return subprocess.Popen(argv, stdout=subprocess.PIPE)


def end(parent: subprocess.Popen[bytes]) -> None:
    parent.kill()
    parent.wait()
    assert parent.stdout is not None
    parent.stdout.close()


async def test_the_parent_is_killed(state: Path) -> None:
    """And never imported Keystone."""
    parent = parent_of(state)
    try:
        assert parent.stdout is not None
        said = json.loads(await asyncio.to_thread(parent.stdout.readline))
        assert said["heavy"] == []
        assert [process.pid for process in servers(state)] == [said["pid"]]
    finally:
        end(parent)
    assert await gone(state)


async def test_the_parent_is_killed_while_keystone_starts(state: Path) -> None:
    parent = parent_of(state)
    try:
        async with asyncio.timeout(10):
            while not servers(state):  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.01)
    finally:
        end(parent)
    assert await gone(state)


async def test_it_is_kept_running(keystone: EmbeddedKeystone) -> None:
    said: list[str] = []
    told = asyncio.Event()

    def say(sentence: str) -> None:
        said.append(sentence)
        told.set()

    keeping = asyncio.create_task(keystone.keep(say))
    first = keystone.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(5):
        await told.wait()
    async with KeystoneClient(keystone.service()) as client, asyncio.timeout(30):
        while True:
            try:
                await client.token()
            except RetryLater:
                await asyncio.sleep(0.05)
            else:
                break
    assert keystone.pid not in {None, first}
    keeping.cancel()
    assert said == ["Keystone ended (-9); starting it again."]


async def test_the_port_is_taken(state: Path) -> None:
    spec = spec_for(state)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", spec.port))
        taken.listen()
        with pytest.raises(Refused, match=f"can't listen on 127.0.0.1:{spec.port}"):
            await EmbeddedKeystone(spec).start()
    assert servers(state) == []


async def test_half_a_request_stops_nobody(shared: EmbeddedKeystone, alice: Credentials) -> None:
    """Keystone reads bodies before it knows who sends them: a peer may never send the rest."""
    address = shared.service().auth_url.removeprefix("http://").removesuffix("/v3").split(":")
    head = b"POST /v3/anything HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"
    halves = []
    try:
        for _ in range(3):
            halves.append(await asyncio.open_connection(address[0], int(address[1])))
            halves[-1][1].write(head)
        await asyncio.sleep(0.2)
        async with KeystoneClient(alice) as theirs, asyncio.timeout(3):
            assert await theirs.token()
    finally:
        for _, writer in halves:
            writer.close()
