"""How a server ends, with its parts as they are: listeners, conductor, store."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from moorage.api.listener import Listener
from moorage.api.probes import Probes
from moorage.api.readiness import Readiness
from moorage.conductor.loop import Conductor
from moorage.connections import Bounds
from moorage.ending import Ending
from moorage.metrics.census import Page
from moorage.model.errors import Refused
from moorage.model.node import NodeSpec, ObservedNode
from moorage.providers.fake import FakeProvider
from moorage.store import Store
from tests.unit.conductor.house import House, open_store

PATIENCE = 10.0


class Held(FakeProvider):
    """Its `ensure` waits to be let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.let_go = asyncio.Event()
        self.done = 0

    async def ensure(self, spec: NodeSpec) -> ObservedNode:
        self.begun.set()
        await self.let_go.wait()
        self.done += 1
        return await super().ensure(spec)


class SlowApp:
    """Answers when it is let go."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.let_go = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        self.begun.set()
        await self.let_go.wait()
        headers = [(b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"done"})


@dataclass
class Server:
    ending: Ending
    api: Listener
    probes: Listener
    app: SlowApp
    provider: Held
    house: House
    conductor: Conductor
    serving: asyncio.Task[None]

    async def ask(self, listener: Listener, path: str) -> bytes:
        """The whole answer of one connection."""
        reader, writer = await asyncio.open_connection(*listener.address)
        writer.write(b"GET %s HTTP/1.1\r\nconnection: close\r\n\r\n" % path.encode())
        try:
            async with asyncio.timeout(PATIENCE):
                return await reader.read()
        finally:
            writer.close()

    async def ready(self) -> tuple[int, Any]:
        head, _, body = (await self.ask(self.probes, "/readyz")).partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await asyncio.shield(self.serving)


@contextlib.asynccontextmanager
async def served(store: Store, *, seconds: float = 0.0) -> AsyncIterator[Server]:
    provider = Held()
    house = House(store, provider)
    conductor = Conductor(store, house.world)
    app, ready, ending = SlowApp(), Readiness({}, kept_seconds=0), Ending(seconds)
    api = Listener(app, "127.0.0.1", 0, Bounds(), drain_seconds=PATIENCE)
    probes = Probes(Page(store.census.count), ready)
    probing = Listener(probes, "127.0.0.1", 0, Bounds(), drain_seconds=1)
    conducting = asyncio.create_task(conductor.run())
    serving = asyncio.create_task(ending.conclude(ready, [api, probing], conductor, conducting))
    try:
        await asyncio.gather(api.opened.wait(), probing.opened.wait())
        yield Server(ending, api, probing, app, provider, house, conductor, serving)
    finally:
        serving.cancel()
        await asyncio.gather(serving, conducting, return_exceptions=True)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path)
    yield opened
    await opened.close()


async def test_asked_to_end_it_says_so_and_finishes_what_is_under_way(store: Store) -> None:
    async with served(store) as server:
        await server.house.add(workers=2)
        async with asyncio.timeout(PATIENCE):
            await server.provider.begun.wait()
        asking = asyncio.create_task(server.ask(server.api, "/"))
        async with asyncio.timeout(PATIENCE):
            await server.app.begun.wait()
        assert (await server.ready())[0] == 200
        server.ending.ask()
        await asyncio.sleep(0)
        status, body = await server.ready()
        assert status == 503
        assert body["parts"][0]["reason"].startswith("stopping")
        assert not server.serving.done(), "a step and a request are under way"
        server.provider.let_go.set()
        server.app.let_go.set()
        assert (await asking).endswith(b"done")
        await server.ended()
        # The next server finds every row free, and its turn due.
        assert not server.conductor.running
        claim = await store.claims.take("the next", 30)
        assert claim is not None


async def test_while_turns_end_and_for_some_time_requests_are_still_answered(store: Store) -> None:
    async with served(store, seconds=60) as server:
        server.app.let_go.set()
        server.ending.ask()
        assert (await server.ask(server.api, "/")).endswith(b"done")
        assert (await server.ready())[0] == 503
        server.ending.ask()
        await server.ended()


async def test_asked_twice_it_hurries_and_gives_leases_back_all_the_same(store: Store) -> None:
    async with served(store) as server:
        await server.house.add()
        async with asyncio.timeout(PATIENCE):
            await server.provider.begun.wait()
        asking = asyncio.create_task(server.ask(server.api, "/"))
        async with asyncio.timeout(PATIENCE):
            await server.app.begun.wait()
        began = asyncio.get_running_loop().time()
        server.ending.ask()
        server.ending.ask()
        await server.ended()
        assert asyncio.get_running_loop().time() - began < 3.0, "neither grace nor drain"
        assert server.provider.done == 0
        assert await store.claims.take("the next", 30) is not None
        asking.cancel()


async def test_an_address_that_is_taken_ends_all(store: Store) -> None:
    async with served(store) as server:
        host, port = server.api.address
        other = Listener(SlowApp(), host, port, Bounds(), drain_seconds=1)
        conductor = Conductor(store, server.house.world)
        conducting = asyncio.create_task(conductor.run())
        with pytest.raises(Refused, match="can't listen"):
            await Ending().conclude(Readiness({}), [other], conductor, conducting)
        assert conducting.done()


async def test_a_conductor_that_dies_takes_the_server_along(store: Store) -> None:
    async with served(store) as server:

        async def dies() -> None:
            raise ZeroDivisionError

        free = Listener(SlowApp(), "127.0.0.1", 0, Bounds(), drain_seconds=1)
        with pytest.raises(ZeroDivisionError):
            await Ending(60).conclude(
                Readiness({}), [free], server.conductor, asyncio.create_task(dies())
            )
