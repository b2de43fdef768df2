"""Clients that never end a handshake, or begin too many, by raw sockets against the listener."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
import uvloop

from moorage.api import acceptor
from moorage.api.acceptor import EACH, context_of
from moorage.api.listener import Listener
from moorage.connections import Bounds
from moorage.model.errors import Refused
from moorage.model.sign_in import SERVER
from moorage.trust import authority_from
from tests.unit.api.test_connections import GET, PATIENCE, Client, Echo, until

AUTHORITY = authority_from("sign-in", b"s" * 32)


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    tls = context_of(AUTHORITY.server(SERVER, []))
    bounds = Bounds(receive_seconds=0.5)
    made = Listener(Echo(), "127.0.0.1", 0, bounds, drain_seconds=0.2, tls=tls)
    running = asyncio.create_task(made.run())
    async with asyncio.timeout(PATIENCE):
        await made.opened.wait()
    yield made
    made.close()
    async with asyncio.timeout(PATIENCE):
        await running


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    async with listening() as made:
        yield made


def trusting(ca: bytes = AUTHORITY.certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=ca.decode())


async def sealed(listener: Listener, source: str = "127.0.0.1") -> Client:
    host, port = listener.address
    return Client(
        *await asyncio.open_connection(
            host, port, ssl=trusting(), server_hostname=SERVER, local_addr=(source, 0)
        )
    )


async def test_whoever_trusts_the_install_s_ca_is_answered(listener: Listener) -> None:
    client = await sealed(listener)
    for _ in range(2):
        await client.send(GET)
        assert await client.status() == 200
    client.close()
    await until(lambda: not listener.guard.open)


async def test_another_ca_is_not_this_one(listener: Listener) -> None:
    other = authority_from("sign-in", b"t" * 32)
    host, port = listener.address
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection(
            host, port, ssl=trusting(other.certificate), server_hostname=SERVER
        )


async def test_who_never_ends_a_handshake_is_counted_and_cut_off(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "HANDSHAKE_SECONDS", 0.3)
    slow = [await Client.of(listener) for _ in range(EACH)]
    late = await Client.of(listener)
    await late.ended()  # one too many of this address, at once
    elsewhere = await sealed(listener, "127.0.0.2")
    await elsewhere.send(GET)
    assert await elsewhere.status() == 200
    for client in slow:
        await client.ended()
        client.close()
    client = await sealed(listener)
    await client.send(GET)
    assert await client.status() == 200
    for each in (client, elsewhere, late):
        each.close()


async def test_what_is_no_tls_is_cut_off(listener: Listener) -> None:
    client = await Client.of(listener)
    await client.send(GET)
    await client.ended()
    client.close()
    assert not listener.guard.open


async def test_so_many_handshakes_of_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "RATE", 0.1)
    monkeypatch.setattr(acceptor, "BURST", 5)

    async def begins(listener: Listener, source: str = "127.0.0.1") -> bool:
        try:
            client = await sealed(listener, source)
        except OSError:
            return False
        client.close()
        return True

    async with listening() as listener:
        assert [await begins(listener) for _ in range(7)] == [True] * 5 + [False] * 2
        assert await begins(listener, "127.0.0.2")


async def test_a_sealed_connection_that_asks_nothing_is_cut_off(listener: Listener) -> None:
    client = await sealed(listener)
    assert await client.status() == 408
    client.close()


async def test_a_connection_that_ends_at_once_does_no_harm(listener: Listener) -> None:
    for _ in range(20):
        plain = socket.create_connection(listener.address)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        plain.close()
    client = await sealed(listener, "127.0.0.2")  # this address has all of its places taken
    await client.send(GET)
    assert await client.status() == 200
    client.close()


async def test_an_address_that_is_taken_is_refused() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        tls = context_of(AUTHORITY.server(SERVER, []))
        listener = Listener(Echo(), "127.0.0.1", port, Bounds(), drain_seconds=0.2, tls=tls)
        with pytest.raises(Refused, match="can't listen"):
            await listener.run()


def test_the_server_s_own_loop_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "HANDSHAKE_SECONDS", 0.3)

    async def scenario() -> None:
        async with listening() as listener:
            slow = [await Client.of(listener) for _ in range(EACH)]
            late = await Client.of(listener)
            await late.ended()
            for client in slow:
                await client.ended()
            client = await sealed(listener)
            await client.send(GET)
            assert await client.status() == 200
            for each in (*slow, late, client):
                each.close()

    uvloop.run(scenario())
