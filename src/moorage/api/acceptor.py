"""TLS connections, from the first packet to the end of the handshake.

What comes before a request is bounded by `connections`, but an event loop tells of a connection
only when its handshake is over: whoever never ends one would not be counted. So connections are
accepted here, counted by address, and have so long to become one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable

from moorage.api.errors import TooMany
from moorage.api.rates import Rates
from moorage.connections import peer_of
from moorage.metrics.requests import Limit, turned_away
from moorage.model.ports import KeyPair

HANDSHAKE_SECONDS = 5.0
MOST, EACH = 256, 16
"""Handshakes under way, in all and of one address."""
RATE, BURST = 100.0, 300
"""Handshakes a second of one address, and so many at once: each takes a signature of ours. All
masters of another machine may come from its one address."""


class Acceptor:
    """As a server of the event loop, for uvicorn: `sockets`, `close`, `wait_closed`.

    `protocol` makes one for each connection. To be made on the running loop.
    """

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        protocol: Callable[[], asyncio.Protocol],
        *,
        rates: Rates | None = None,
    ) -> None:
        self.sockets = [listening]
        self._context = context
        self._protocol = protocol
        self._rates = rates or Rates(RATE, BURST)
        self._shaking: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept())
        # Not before it lets go of it: the loop would wait for a descriptor of somebody else's.
        self._accepting.add_done_callback(lambda _: listening.close())

    def close(self) -> None:
        self._accepting.cancel()
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        await asyncio.gather(self._accepting, *self._tasks, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self.sockets[0])
            except OSError:  # it hung up already, or there is no descriptor for it
                await asyncio.sleep(0.05)
                continue
            peer = peer_of(address[0])
            if (limit := self._refusal(peer)) is not None:
                turned_away(limit)
                connection.close()
                await asyncio.sleep(0)  # a flood must not keep the loop
                continue
            self._shaking[peer] += 1
            task = asyncio.create_task(self._shake(connection, peer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _refusal(self, peer: str) -> Limit | None:
        if self._shaking.total() >= MOST:
            return Limit.CONNECTIONS
        if self._shaking[peer] >= EACH:
            return Limit.ADDRESS
        try:
            self._rates.take(peer)
        except TooMany:
            return Limit.RATE
        return None

    async def _shake(self, connection: socket.socket, peer: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection.setblocking(False)
            await loop.connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=HANDSHAKE_SECONDS,
            )
        except OSError:  # of TLS too: a stranger's, and told by nobody's log
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise
        finally:
            self._shaking[peer] -= 1
            if not self._shaking[peer]:
                del self._shaking[peer]


def listening_at(host: str, port: int) -> socket.socket:
    """Raises OSError where the address can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(256)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


def context_of(pair: KeyPair) -> ssl.SSLContext:
    """A server's, of TLS 1.3. The key passes OpenSSL, which reads paths only, in memory."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    memory = os.memfd_create("server.pem", os.MFD_CLOEXEC)
    with contextlib.closing(os.fdopen(memory, "wb", buffering=0)) as file:
        file.write(pair.certificate + pair.key)
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    return context
