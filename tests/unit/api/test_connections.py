"""Clients that are too many, too large or too slow, by raw sockets against the real listener."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from starlette.types import Receive, Scope, Send

from moorage.api.listener import Listener
from moorage.connections import MOST_AHEAD, MOST_HEAD, MOST_WHOLE, Bounds, connections_at_most
from moorage.model.errors import Refused

PATIENCE = 5.0
LARGE = b"x" * 4 * 2**20
"""More than the kernel's buffers of a loopback connection hold, once they are made small."""


RUNNING = contextvars.ContextVar("RUNNING", default="fresh")


class Echo:
    """Reads a body, and says how long it was; `/large` answers with more than anyone buffers."""

    def __init__(self) -> None:
        self.heads: list[list[tuple[bytes, bytes]]] = []
        self.asked = 0
        self.contexts: list[str] = []
        self.busy = 0
        self.idle = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        self.busy += 1
        self.contexts.append(RUNNING.get())
        RUNNING.set("another's")
        self.idle.clear()
        try:
            await self._answer(scope, receive, send)
        finally:
            self.busy -= 1
            self.idle.set()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            length += len(message["body"])
            if not message["more_body"]:
                break
        self.heads.append(list(scope["headers"]))
        body = LARGE if scope["path"] == "/large" else b"%d" % length
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


Opened = Callable[[Bounds], Awaitable[Listener]]


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def opened(echo: Echo) -> AsyncIterator[Opened]:
    async with contextlib.AsyncExitStack() as stack:

        async def open_one(bounds: Bounds) -> Listener:
            listener = Listener(echo, "127.0.0.1", 0, bounds, drain_seconds=0.2)
            running = asyncio.create_task(listener.run())
            async with asyncio.timeout(PATIENCE):
                await listener.opened.wait()

            async def end() -> None:
                listener.close()
                await running

            stack.push_async_callback(end)
            return listener

        yield open_one


class Client:
    """A raw connection; `source` is the loopback address that it comes from."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def of(cls, listener: Listener, source: str = "127.0.0.1") -> Client:
        host, port = listener.address
        return cls(*await asyncio.open_connection(host, port, local_addr=(source, 0)))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def status(self) -> int:
        """Of the next answer, its body read as well. 0: it was cut off without one."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            async with asyncio.timeout(PATIENCE):
                head = await self.reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
                await self.reader.readexactly(length)
                return int(head.split()[1])
        return 0

    async def ended(self) -> None:
        """Return when the server has closed."""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(65536):
                    pass

    def close(self) -> None:
        self.writer.transport.abort()


GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


async def answers(listener: Listener, source: str = "127.0.0.1") -> int:
    client = await Client.of(listener, source)
    await client.send(GET)
    try:
        return await client.status()
    finally:
        client.close()


async def until(right: Callable[[], bool]) -> None:
    """A connection's end is noticed by the server when it is noticed."""
    async with asyncio.timeout(PATIENCE):
        while not right():  # noqa: ASYNC110 -- the server has no event for it
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "slowly",
    [
        b"",
        b"GET / HT",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: y",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y",
        GET + b"GET / HT",
    ],
)
async def test_who_sends_slowly_is_cut_off_and_leaves_nothing(
    opened: Opened, echo: Echo, slowly: bytes
) -> None:
    listener = await opened(Bounds(receive_seconds=0.2))
    client = await Client.of(listener)
    await client.send(slowly)
    await client.ended()
    await until(lambda: not listener.guard.open)
    assert echo.busy == 0


async def test_a_byte_now_and_then_buys_no_time(opened: Opened) -> None:
    listener = await opened(Bounds(receive_seconds=0.3))
    client = await Client.of(listener)
    began = asyncio.get_running_loop().time()

    async def drip() -> None:
        with contextlib.suppress(ConnectionError):
            for byte in GET[:-4] + b"a" * 10_000:
                await client.send(bytes([byte]))
                await asyncio.sleep(0.01)

    dripping = asyncio.create_task(drip())
    assert await client.status() == 408
    assert asyncio.get_running_loop().time() - began < 2.0
    dripping.cancel()
    client.close()


async def test_blank_lines_do_not_keep_an_idle_connection(opened: Opened) -> None:
    """They end uvicorn's own timer of idle connections."""
    listener = await opened(Bounds(receive_seconds=0.2))
    client = await Client.of(listener)
    await client.send(GET)
    assert await client.status() == 200
    await client.send(b"\r\n")
    await client.ended()


async def test_who_does_not_read_is_cut_off(opened: Opened, echo: Echo) -> None:
    listener = await opened(Bounds(send_seconds=0.3))
    host, port = listener.address
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, (host, port))
        await asyncio.get_running_loop().sock_sendall(raw, GET.replace(b"/ ", b"/large ", 1))
        await until(lambda: echo.asked == 1)
        assert await answers(listener) == 200, "others are served meanwhile"
        await until(lambda: not listener.guard.open)
    assert echo.busy == 0


async def test_a_large_answer_that_is_read_is_whole(opened: Opened) -> None:
    listener = await opened(Bounds(send_seconds=0.3))
    client = await Client.of(listener)
    for _ in range(3):
        await client.send(GET.replace(b"/ ", b"/large ", 1))
        assert await client.status() == 200
    client.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * (MOST_HEAD + 1), 431),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * (MOST_HEAD + 1) + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * (MOST_HEAD + 1), 431),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 101 + b"\r\n", 431),
        (b"\r\n" * MOST_HEAD, 431),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 30_000 + b"\r\n\r\n", 200),
    ],
)
async def test_heads_are_bounded(opened: Opened, sent: bytes, status: int) -> None:
    listener = await opened(Bounds())
    client = await Client.of(listener)
    with contextlib.suppress(ConnectionError):
        await client.send(sent)
    assert await client.status() == status
    if status != 200:
        await client.ended()
    client.close()


async def test_a_body_beside_a_head_is_none_of_its_bytes(opened: Opened) -> None:
    listener = await opened(Bounds())
    client = await Client.of(listener)
    body = b"b" * (2 * MOST_HEAD)
    await client.send(
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    )
    assert await client.status() == 200
    client.close()


async def test_a_request_without_end_is_cut_off(opened: Opened, echo: Echo) -> None:
    """Trailers are no body: the API does not count them."""
    listener = await opened(Bounds())
    client = await Client.of(listener)
    await client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ")
    with contextlib.suppress(ConnectionError):
        await client.send(b"a" * (MOST_WHOLE + 1))
    assert await client.status() == 0
    await until(lambda: echo.busy == 0)


async def test_trailers_are_not_headers(opened: Opened, echo: Echo) -> None:
    listener = await opened(Bounds())
    client = await Client.of(listener)
    await client.send(
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        b"0\r\nx-forwarded-for: 6.6.6.6\r\n\r\n"
    )
    assert await client.status() == 200
    assert b"x-forwarded-for" not in dict(echo.heads[0])
    client.close()


async def test_few_requests_may_be_sent_ahead(opened: Opened, echo: Echo) -> None:
    listener = await opened(Bounds())
    client = await Client.of(listener)
    await client.send(GET * 3)
    assert [await client.status() for _ in range(3)] == [200, 200, 200]
    assert echo.contexts == ["fresh"] * 3, "the log's lines of one must not tell of another"
    await client.send(GET * (MOST_AHEAD * 20))
    await client.ended()


async def test_one_address_can_not_take_what_all_have(opened: Opened) -> None:
    listener = await opened(Bounds(connections=20, each=5))
    idle = [await Client.of(listener) for _ in range(5)]
    await until(lambda: len(listener.guard.open) == 5)
    assert await answers(listener) == 503
    assert await answers(listener, "127.0.0.2") == 200, "another address has its own share"
    idle[0].close()
    await until(lambda: len(listener.guard.open) == 4)
    assert await answers(listener) == 200
    for client in idle:
        client.close()
    await until(lambda: not listener.guard.open)


async def test_many_idle_connections_hinder_nobody_for_long(opened: Opened) -> None:
    listener = await opened(Bounds(receive_seconds=0.5, connections=300, each=0))
    idle = await asyncio.gather(
        *(Client.of(listener, f"127.0.1.{n % 200 + 1}") for n in range(295))
    )
    assert await answers(listener) == 200
    more = await asyncio.gather(*(Client.of(listener) for _ in range(20)))
    await until(lambda: len(listener.guard.open) == 300)
    await asyncio.gather(*(client.ended() for client in (*idle, *more)))
    await until(lambda: not listener.guard.open)
    assert await answers(listener) == 200


async def test_descriptors_remain_for_everything_else() -> None:
    assert connections_at_most(100) <= 100
    assert connections_at_most(10**9) < 10**9


async def test_an_address_that_is_taken_is_told(opened: Opened) -> None:
    listener = await opened(Bounds())
    host, port = listener.address
    with pytest.raises(Refused, match=f"can't listen on {host}:{port}"):
        await Listener(Echo(), host, port, Bounds(), drain_seconds=0).run()


@pytest.mark.parametrize(
    ("bounds", "sources"),
    [
        (Bounds(unread_each=len(LARGE)), 1),
        (Bounds(unread=len(LARGE)), 16),
    ],
)
async def test_answers_that_nobody_reads_are_bounded(
    opened: Opened, bounds: Bounds, sources: int
) -> None:
    listener = await opened(bounds)
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        for number in range(16):
            raw = stack.enter_context(socket.socket())
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.bind((f"127.0.0.{2 + number % sources}", 0))
            raw.setblocking(False)
            await loop.sock_connect(raw, listener.address)
            await loop.sock_sendall(raw, GET.replace(b"/ ", b"/large ", 1))
        await until(lambda: len(listener.guard.open) < 16 and bool(listener.guard.unread))
        await asyncio.sleep(0.1)
        held = sum(one.unread() for one in listener.guard.open)
        assert 0 < held <= len(LARGE)
    await until(lambda: not listener.guard.open)
    assert await answers(listener) == 200
