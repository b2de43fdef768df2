"""Engines that send without end, by whatever part of HTTP: each is cut off, and soon."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from moorage.clients.docker import Engine, EnginePool, EngineSilent
from moorage.clients.docker_session import ANSWER_BYTES
from moorage.model.ports import CaKeys
from moorage.trust import ClusterAuthority, new_ca

AUTHORITY = ClusterAuthority(CaKeys(new_ca("ours")))
OK = b"HTTP/1.1 200 OK\r\n"
JSON = OK + b"Content-Type: application/json\r\n"
PING = OK + b"Content-Type: text/plain\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK"
BUFFERS = 8 << 20
"""What lies between the two ends beside what was read."""


class Flood:
    """Answers the first ping, and everything else with `begin` and `more` for ever."""

    def __init__(self) -> None:
        self.begin = self.more = b""
        self.unasked = False
        """Does not even wait for the second question."""
        self.sent = 0
        self.ended = asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(PING)
            if not self.unasked:
                await reader.readuntil(b"\r\n\r\n")
            writer.write(self.begin)
            while not writer.is_closing():
                writer.write(self.more)
                await writer.drain()
                self.sent += len(self.more)
                await asyncio.sleep(0)  # `drain` alone lets nobody else run while there is room
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            self.ended.set()


@pytest_asyncio.fixture
async def flood(tmp_path: Path) -> AsyncIterator[Flood]:
    pair = AUTHORITY.server("localhost", ["127.0.0.1"])
    file = tmp_path / "server.pem"
    file.write_bytes(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    made = Flood()
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made


@pytest_asyncio.fixture
async def engine(flood: Flood) -> AsyncIterator[Engine]:
    pool = EnginePool(port=flood.port)
    yield pool.engine("cluster", AUTHORITY, "worker-0", "127.0.0.1")
    await pool.aclose()


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        (OK, b"X-A: " + b"a" * 8000 + b"\r\n"),
        (JSON + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a" * 65536),
        (JSON + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 10000),
        (JSON + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"),
        (OK + b"Content-Type: text/html\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 65536),
        (OK + b"Content-Length: 99999999999\r\n\r\n", b"x" * 65536),
    ],
    ids=["continue", "headers", "extension", "crumbs", "body", "a page", "nothing in particular"],
)
async def test_a_flood_is_cut_off(flood: Flood, engine: Engine, begin: bytes, more: bytes) -> None:
    flood.begin, flood.more = begin, more
    with pytest.raises(EngineSilent):
        await engine.init_swarm(pool="10.0.0.0/8", heartbeat=1.0)  # which waits longest
    async with asyncio.timeout(5):
        await flood.ended.wait()
    assert flood.sent < 2 * ANSWER_BYTES + BUFFERS


async def test_a_flood_that_nobody_asked_for(flood: Flood, engine: Engine) -> None:
    flood.more, flood.unasked = PING * 1000, True
    await engine.ping()
    async with asyncio.timeout(5):
        await flood.ended.wait()
    assert flood.sent < 2 * ANSWER_BYTES + BUFFERS


async def test_an_answer_that_takes_long_to_parse(flood: Flood, engine: Engine) -> None:
    body = json.dumps([[]] * 1_000_000, separators=(",", ":")).encode()
    assert len(body) < ANSWER_BYTES
    flood.begin = JSON + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with pytest.raises(EngineSilent, match="more than 131072 objects"):
        await engine.members()
