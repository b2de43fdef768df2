"""The Keystone client, before a server that misbehaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from moorage.clients.keystone import Credentials, KeystoneClient
from moorage.identity.clouds import save_cloud
from moorage.model.errors import Refused, RetryLater, Unauthenticated

FAR = "2099-01-01T00:00:00.000000Z"


@dataclass
class PaperServer:
    """Issues own-1, own-2, … and answers questions about tokens by `answer`."""

    answer: Callable[[web.Request], Awaitable[web.Response]]
    issued: list[str] = field(default_factory=list)
    expires_at: str = FAR
    url: str = ""

    async def sign_in(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["auth"]["identity"]["password"]["user"]["password"] != "right":
            return web.json_response({"error": {"code": 401}}, status=401)
        self.issued.append(f"own-{len(self.issued) + 1}")
        token = {"token": {"expires_at": self.expires_at}}
        return web.json_response(token, status=201, headers={"X-Subject-Token": self.issued[-1]})

    async def show(self, request: web.Request) -> web.Response:
        if request.headers["X-Auth-Token"] != self.issued[-1]:
            return web.json_response({"error": {"code": 401}}, status=401)
        return await self.answer(request)


async def good(request: web.Request) -> web.Response:
    token = {
        "user": {"id": "u", "name": "alice"},
        "project": {"id": "p", "name": "ours"},
        "roles": [{"name": "Member"}],
        "expires_at": "2030-01-01T00:00:00.000000Z",
    }
    return web.json_response({"token": token})


@pytest.fixture
async def server() -> AsyncIterator[PaperServer]:
    paper = PaperServer(good)
    app = web.Application()
    app.router.add_post("/v3/auth/tokens", paper.sign_in)
    app.router.add_get("/v3/auth/tokens", paper.show)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    paper.url = f"http://{host}:{port}/v3"
    yield paper
    await runner.cleanup()


@pytest.fixture
async def client(server: PaperServer) -> AsyncIterator[KeystoneClient]:
    async with KeystoneClient(Credentials(server.url, "moorage", "right", "service")) as made:
        yield made


async def test_one_token_of_ours_for_many_questions(
    client: KeystoneClient, server: PaperServer
) -> None:
    for _ in range(3):
        info = await client.show_token("theirs")
    assert info is not None
    assert (info.user_name, info.project_id, info.roles) == ("alice", "p", frozenset({"member"}))
    assert info.expires_at == 1893456000.0
    assert server.issued == ["own-1"]


async def test_our_token_is_revoked(client: KeystoneClient, server: PaperServer) -> None:
    await client.show_token("theirs")
    server.issued.append("own-2")  # Keystone was restarted with other keys: own-1 is nothing
    assert await client.show_token("theirs") is not None
    assert server.issued == ["own-1", "own-2", "own-3"]


async def test_our_token_ends(client: KeystoneClient, server: PaperServer) -> None:
    server.expires_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 30))
    await client.show_token("theirs")
    await client.show_token("theirs")
    assert server.issued == ["own-1", "own-2"], "renewed before it ends"


async def test_unknown_token(client: KeystoneClient, server: PaperServer) -> None:
    async def unknown(request: web.Request) -> web.Response:
        return web.json_response({"error": {"code": 404}}, status=404)

    server.answer = unknown
    assert await client.show_token("forged") is None


async def test_we_may_not_ask(client: KeystoneClient, server: PaperServer) -> None:
    async def forbidden(request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "no role"}}, status=403)

    server.answer = forbidden
    with pytest.raises(Refused, match="no role"):
        await client.show_token("theirs")


async def test_wrong_password(server: PaperServer) -> None:
    async with KeystoneClient(Credentials(server.url, "moorage", "wrong", "service")) as client:
        with pytest.raises(Unauthenticated, match="does not let 'moorage' into") as caught:
            await client.token()
        assert "wrong" not in caught.value.reason


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_server_errors(client: KeystoneClient, server: PaperServer, status: int) -> None:
    async def failing(request: web.Request) -> web.Response:
        return web.Response(status=status, text="<html>")

    server.answer = failing
    with pytest.raises(RetryLater):
        await client.show_token("theirs")


async def test_an_answer_that_is_no_json(client: KeystoneClient, server: PaperServer) -> None:
    async def nonsense(request: web.Request) -> web.Response:
        return web.Response(text="<html>")

    server.answer = nonsense
    with pytest.raises(RetryLater):
        await client.show_token("theirs")


async def test_nobody_there() -> None:
    async with KeystoneClient(Credentials("http://127.0.0.1:1/v3", "a", "b", "c")) as client:
        with pytest.raises(RetryLater, match="does not answer"):
            await client.token()


async def test_a_server_that_says_nothing(server: PaperServer) -> None:
    async def silent(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    server.answer = silent
    credentials = Credentials(server.url, "moorage", "right", "service")
    async with KeystoneClient(credentials, timeout=0.2) as client:
        with pytest.raises(RetryLater, match="does not answer"):
            await client.show_token("theirs")


def test_secrets_are_not_in_reprs() -> None:
    assert "hush" not in repr(Credentials("http://x/v3", "a", "hush", "c"))


def test_clouds_are_kept_beside_each_other(tmp_path: Path) -> None:
    path = tmp_path / "clouds.yaml"
    save_cloud(path, "moorage", Credentials("http://x/v3", "admin", "one", "admin"))
    save_cloud(path, "demo", Credentials("http://x/v3", "demo", "two", "demo"))
    save_cloud(path, "demo", Credentials("http://x/v3", "demo", "three", "demo"))
    clouds = yaml.safe_load(path.read_text())["clouds"]
    assert {name: cloud["auth"]["password"] for name, cloud in clouds.items()} == {
        "moorage": "one",
        "demo": "three",
    }
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
