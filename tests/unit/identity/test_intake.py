"""What stands before the one thread of the embedded Keystone, by raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from a2wsgi import WSGIMiddleware

from moorage.api.listener import Listener
from moorage.connections import Bounds
from moorage.identity.intake import MOST_BODY, Intake

PATIENCE = 5.0


class Slow:
    """A WSGI application that reads the whole body first, as Keystone does, and can be held."""

    def __init__(self) -> None:
        self.served: list[str] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.answer = b"done"

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH", 0)))
        self.served.append(environ["PATH_INFO"] + body.decode())
        self.go_on.wait(PATIENCE)
        start_response("200 OK", [("Content-Length", str(len(self.answer)))])
        piece = len(self.answer) // 20 + 1
        return [self.answer[at : at + piece] for at in range(0, len(self.answer), piece)]


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
async def listener(slow: Slow) -> AsyncIterator[Listener]:
    app = Intake(WSGIMiddleware(slow, workers=1))  # type: ignore[arg-type]
    made = Listener(app, "127.0.0.1", 0, Bounds(receive_seconds=2.0), drain_seconds=0.2)
    running = asyncio.create_task(made.run())
    async with asyncio.timeout(PATIENCE):
        await made.opened.wait()
    yield made
    slow.go_on.set()
    made.close()
    await running


Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def send(listener: Listener, data: bytes, source: str = "127.0.0.1") -> Wire:
    wire = await asyncio.open_connection(*listener.address, local_addr=(source, 0))
    wire[1].write(data)
    return wire


async def status(wire: Wire) -> int:
    async with asyncio.timeout(PATIENCE):
        head = await wire[0].readuntil(b"\r\n\r\n")
    return int(head.split()[1])


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


async def until(fulfilled: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not fulfilled():  # noqa: ASYNC110 -- what is awaited is another thread's
            await asyncio.sleep(0.01)


async def test_half_a_request_holds_nobody_up(slow: Slow, listener: Listener) -> None:
    head = b"POST /v3/anything HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
    halves = [await send(listener, head + b"t") for _ in range(3)]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(1.0):
        assert await status(await send(listener, get("/v3"))) == 200
    halves[0][1].write(b"est")
    assert await status(halves[0]) == 200
    assert slow.served == ["/v3", "/v3/anythingtest"]
    assert await halves[1][0].read() == b""  # cut off, in its time


async def test_who_does_not_read_holds_nobody_up(slow: Slow, listener: Listener) -> None:
    slow.answer = b"x" * 2**24
    await send(listener, get("/unread"))
    await until(lambda: slow.served)
    slow.answer = b"short"
    async with asyncio.timeout(2.0):
        assert await status(await send(listener, get("/v3"))) == 200


async def test_addresses_take_turns(slow: Slow, listener: Listener) -> None:
    """Many of one address wait behind each other, and not before the next address."""
    slow.go_on.clear()
    wires = [await send(listener, get("/first"))]
    await until(lambda: slow.served)
    for number in range(5):
        wires.append(await send(listener, get(f"/many{number}"), "127.0.0.2"))
        await asyncio.sleep(0.02)
    wires.append(await send(listener, get("/one"), "127.0.0.3"))
    await asyncio.sleep(0.1)
    slow.go_on.set()
    assert [await status(wire) for wire in wires] == [200] * 7
    many = [f"/many{number}" for number in range(5)]
    assert slow.served == ["/first", many[0], "/one", *many[1:]]


async def test_who_hangs_up_has_no_turn(slow: Slow, listener: Listener) -> None:
    slow.go_on.clear()
    held = await send(listener, get("/held"))
    await until(lambda: slow.served)
    for _ in range(5):
        _, writer = await send(listener, get("/gone"))
        await asyncio.sleep(0.02)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    waits = await send(listener, get("/waits"))
    await until(lambda: len(listener.guard.open) == 2)
    slow.go_on.set()
    assert await status(held) == await status(waits) == 200
    assert slow.served == ["/held", "/waits"]


async def test_a_body_is_bounded(slow: Slow, listener: Listener) -> None:
    head = b"POST /v3 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    large = await send(listener, head % (MOST_BODY + 1) + b"x" * (MOST_BODY + 1))
    assert await status(large) == 413
    assert await status(await send(listener, head % MOST_BODY + b"x" * MOST_BODY)) == 200
    assert len(slow.served) == 1
