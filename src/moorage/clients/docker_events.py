"""An ear on an engine: it hears that there are events, and never reads what they say.

Events are hints here, so their bytes are counted and thrown away. What must stay true:

- There is a stream for every cluster, so each must cost little. asyncio's TLS keeps 300 KB
  a connection; `_Wire`, on the loop's readers, keeps a tenth.
- An engine that hangs is heard as well: every request ends by itself after PULSE seconds
  (`until`), and the next one asks from there (`since`) on the same connection. One that does
  not end in time is a sign of trouble, as is one that breaks off.
- What a hostile engine sends is read a few KiB at a time, and only as fast as whoever listens
  takes the hints: it waits in the kernel's buffers, and then on the engine's side. Nothing
  is kept of it. Headers are bounded, and so is what a stream has beside its events.
- A peer that is gone without a word is found by TCP itself.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TypeVar
from urllib.parse import urlencode

import httptools

from moorage.clients.docker_errors import EngineSilent, what_of

T = TypeVar("T")

PULSE = 15.0
"""Seconds after which the engine has to end its answer."""
GRACE = 4.0
"""Seconds that it may be late."""
CONNECT_SECONDS = 4.0
PIECE = 4096
OVERHEAD = 64 << 10
"""Bytes of one answer that are no events: its headers, and the lengths of its pieces. Bytes of
TLS as well, between two pieces of data: a record has 16 KiB at the most."""
KEEPALIVE = {socket.TCP_KEEPIDLE: 6, socket.TCP_KEEPINTVL: 2, socket.TCP_KEEPCNT: 2}
"""Seconds of silence, seconds between two probes, probes: gone after ten seconds."""

Filters = Mapping[str, Sequence[str]]


class Ear:
    """One connection to the engine at `address:port`. `open` it first; `changes` closes it.

    Both raise EngineSilent where it can't be heard (any more). `name` is what it is called then.
    """

    def __init__(
        self, name: str, address: str, port: int, tls: ssl.SSLContext, filters: Filters
    ) -> None:
        self._name = name
        self._address = address
        self._port = port
        self._tls = tls
        self._filters = json.dumps(filters)
        self._wire: _Wire | None = None

    async def open(self) -> None:
        plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            plain.setblocking(False)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE.items():
                plain.setsockopt(socket.IPPROTO_TCP, option, value)
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(plain, (self._address, self._port))
                wire = _Wire(self._name, plain, self._tls, self._address)
                await wire.handshake()
        except OSError as error:  # TimeoutError and ssl.SSLError are some
            plain.close()
            raise self._silent(error) from None
        except BaseException:
            plain.close()
            raise
        self._wire = wire

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    async def changes(self) -> AsyncGenerator[None]:
        """An item for each piece of events."""
        since: float | None = None
        try:
            while True:
                began = time.time()
                until = began + PULSE
                async with aclosing(self._answer(since, until)) as answer:
                    async for _ in answer:
                        yield
                since = until
                # An engine whose clock is ahead ends its answers at once.
                await asyncio.sleep(max(0.0, PULSE / 2 - (time.time() - began)))
        except OSError as error:
            raise self._silent(error) from None
        finally:
            self.close()

    def _silent(self, error: OSError) -> EngineSilent:
        late = isinstance(error, TimeoutError) and not error.errno
        return EngineSilent(f"{self._name} {'tells nothing' if late else what_of(error)}")

    async def _answer(self, since: float | None, until: float) -> AsyncGenerator[None]:
        assert self._wire is not None  # noqa: S101 -- it was opened
        wire, answer = self._wire, _Answer(self._name)
        async with asyncio.timeout(CONNECT_SECONDS):
            await wire.send(self._request(since, until))
            while answer.status is None:
                answer.feed(await wire.receive())
        while not answer.over:
            if answer.heard():
                yield
            # Whoever listens may have taken its time with a hint: what waits is no silence.
            async with asyncio.timeout(max(until + GRACE - time.time(), 1.0)):
                answer.feed(await wire.receive())
        if answer.heard():
            yield

    def _request(self, since: float | None, until: float) -> bytes:
        asked = {"filters": self._filters, "until": f"{until:.3f}"}
        if since is not None:
            asked["since"] = f"{since:.3f}"
        return (
            f"GET /events?{urlencode(asked)} HTTP/1.1\r\n"
            f"Host: {self._address}:{self._port}\r\nAccept-Encoding: identity\r\n\r\n"
        ).encode()


class _Wire:
    """TLS over a connected socket, a piece at a time.

    From a record without data OpenSSL goes on to the next one by itself, as long as its source
    has any: given a socket that its peer keeps full, it would never come back, and the loop stand
    still. So it is given a piece at a time, the loop has its turn after each, and what has no
    data in it is counted. Its methods raise OSError; EngineSilent beyond OVERHEAD.
    """

    def __init__(
        self, name: str, plain: socket.socket, context: ssl.SSLContext, address: str
    ) -> None:
        self._name = name
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=address)
        self._without_data = 0
        """Bytes since the last data."""

    def close(self) -> None:
        self._plain.close()

    async def handshake(self) -> None:
        await self._do(self._tls.do_handshake)
        self._without_data = 0

    async def send(self, data: bytes) -> None:
        await self._do(self._tls.write, data)

    async def receive(self) -> bytes:
        """At least a byte and at most PIECE; none where the peer has closed."""
        try:
            data = await self._do(self._tls.read, PIECE)
        except ssl.SSLEOFError:
            return b""
        self._without_data = 0
        return data

    async def _do(self, act: Callable[..., T], *arguments: object) -> T:
        """A call of TLS, again after each piece until it needs no more of them."""
        while True:
            try:
                done = act(*arguments)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._take()
            else:
                await self._flush()
                return done

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await asyncio.get_running_loop().sock_sendall(self._plain, self._outgoing.read())

    async def _take(self) -> None:
        # A socket that has something is read without a wait: the others' turn is asked for.
        await asyncio.sleep(0)
        piece = await asyncio.get_running_loop().sock_recv(self._plain, PIECE)
        if piece:
            self._incoming.write(piece)
        else:
            self._incoming.write_eof()
        self._without_data += len(piece)
        if self._without_data > OVERHEAD:
            raise EngineSilent(f"{self._name} sends more than a Docker Engine does")


class _Answer:
    """What httptools tells of one answer: how much of it was events, and whether it is over."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.status: int | None = None
        self.over = False
        self._events = 0
        self._received = 0
        self._told = 0
        self._parser = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._events += len(body)

    def on_message_complete(self) -> None:
        self.over = True

    def heard(self) -> bool:
        """Whether there were events since this was asked last."""
        more = self._events > self._told
        self._told = self._events
        return more

    def feed(self, data: bytes) -> None:
        """Raises EngineSilent for what no engine sends."""
        self._received += len(data)
        if not data:
            raise EngineSilent(f"{self._name} closed the connection")
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            raise EngineSilent(f"{self._name} did not answer as a Docker Engine does") from None
        if self.status not in {None, 200}:
            raise EngineSilent(f"{self._name} answered with status {self.status}")
        if self._received - self._events > OVERHEAD:
            raise EngineSilent(f"{self._name} sends more than a Docker Engine does")
