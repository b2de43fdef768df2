"""Connections, before anything is known of who asks: how many, how large, how slow.

The API's, and those of the embedded Keystone.

uvicorn's protocol on httptools bounds neither a request's head, nor the time that it takes,
nor who opens how many connections, nor what a client does not read. `Connection` adds that:

    opened    one too many, in all or from one address: 503, closed
    head      its bytes, the URL's, its headers' number: 431 or 414, closed
    whole     a request of more bytes than any body that is allowed: cut off
    queue     requests sent ahead of answers, more than a few: cut off
    receive   head and body within `receive_seconds` of the first byte (or of the
              connection, or of the last answer): 408 or cut off
    send      what was answered, read within `send_seconds`: cut off
    unread    answers that wait for their readers, in all or of one address: 503, or cut off

No timer is set for a request: each notes when it began to wait for its client, and `Guard`
looks at all of them every now and then. So a slow client costs a socket, its few buffers
(`MOST_HEAD`, 64 KiB of body, one answer) and no more, for a bounded time.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import resource
from collections import Counter
from dataclasses import dataclass
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from moorage.metrics.requests import CONNECTIONS, Limit, turned_away

MOST_HEAD = 32 * 1024
"""Bytes of request line and headers. A token has at most 4,096."""
MOST_URL = 8 * 1024
MOST_HEADERS = 100
MOST_WHOLE = 2 * 2**20
"""Bytes of one request on the wire: a body of 256 KiB, in however small chunks."""
MOST_AHEAD = 8
"""Requests that a client may send before the answer to the first (HTTP pipelining)."""
SPARE_FILES = 256
"""Descriptors that clients can't have: the database's, Keystone's, the nodes'."""

log = structlog.get_logger("moorage.api")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds, and numbers of connections. `each`: from one address (IPv6: one /64); 0: any."""

    receive_seconds: float = 20.0
    send_seconds: float = 30.0
    connections: int = 1000
    each: int = 200
    unread: int = 256 * 2**20
    """Bytes of answers that were not read yet, in all; those of one address: `unread_each`."""
    unread_each: int = 64 * 2**20


class TooLarge(Exception):
    """Ends the parsing of a request; the connection has noted what to answer."""


class Guard:
    """The connections of one listener."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.open: set[Connection] = set()
        self.unread: set[Connection] = set()
        """Those that had an answer not read yet when they were looked at last."""
        self._by_address: Counter[str] = Counter()

    def connection(self, **given: Any) -> Connection:
        """For uvicorn: its `http` is called for each new connection."""
        return Connection(self, **given)

    def admit(self, connection: Connection) -> Limit | None:
        """Count it in. Whichever limit it is beyond."""
        self.open.add(connection)
        self._by_address[connection.peer] += 1
        CONNECTIONS.inc()
        if len(self.open) > self.bounds.connections:
            return Limit.CONNECTIONS
        if self.bounds.each and self._by_address[connection.peer] > self.bounds.each:
            return Limit.ADDRESS
        return None

    def overfull(self, connection: Connection) -> bool:
        """Whether too much was answered that nobody reads, in all or by this one's address."""
        self.unread = {one for one in self.unread if one.unread()}
        ours = sum(one.unread() for one in self.unread if one.peer == connection.peer)
        return (self.bounds.each > 0 and ours > self.bounds.unread_each) or (
            sum(one.unread() for one in self.unread) > self.bounds.unread
        )

    def leave(self, connection: Connection) -> None:
        if connection not in self.open:
            return
        self.open.discard(connection)
        self.unread.discard(connection)
        CONNECTIONS.dec()
        self._by_address[connection.peer] -= 1
        if not self._by_address[connection.peer]:
            del self._by_address[connection.peer]

    async def watch(self) -> None:
        """Cut off who is too slow, until cancelled."""
        shortest = min(self.bounds.receive_seconds, self.bounds.send_seconds)
        while True:
            await asyncio.sleep(min(1.0, shortest / 4))
            self.look(asyncio.get_running_loop().time())

    def look(self, now: float) -> None:
        for connection in list(self.open):
            connection.end_if_slow(now)


class Connection(HttpToolsProtocol):
    """`waits_since`: for a request, or its rest, or nothing at all while the server works."""

    def __init__(self, guard: Guard, **given: Any) -> None:
        super().__init__(**given)
        self._guard = guard
        self.peer = ""
        self.waits_since: float | None = None
        self.unread_since: float | None = None
        self._in_head = True
        self._fed = 0
        """Bytes since the last whole request."""
        self._refusal: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.peer = peer_of(self.client[0]) if self.client else ""
        self.waits_since = self.loop.time()
        if (limit := self._guard.admit(self)) is not None:
            turned_away(limit)
            self._refusal = 503
            self.send_400_response("Too many connections are open.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._guard.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._fed += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._fed > MOST_HEAD:
            self._refuse(431)
        elif self._fed > MOST_WHOLE:
            self._refuse(413)

    def on_message_begin(self) -> None:
        self.waits_since = self.loop.time()
        self.unread_since = None
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if len(self.url) > MOST_URL:
            self._refusal = 414
            raise TooLarge
        if len(self.headers) > MOST_HEADERS or (
            self._fed > MOST_HEAD and sum(len(n) + len(v) for n, v in self.headers) > MOST_HEAD
        ):
            self._refusal = 431
            raise TooLarge
        if len(self.pipeline) >= MOST_AHEAD:
            self._refusal = 503
            raise TooLarge
        if self._guard.unread and self._guard.overfull(self):
            turned_away(Limit.UNREAD)
            self._refusal = 503
            raise TooLarge
        self._in_head = False
        super().on_headers_complete()
        # Trailers are none of the headers that a proxy before us has looked at.
        self.headers = []

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head, self._fed = True, 0
        answered = self.cycle is None or self.cycle.response_complete
        self.waits_since = self.loop.time() if answered else None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.unread():
            # Many may have been asked before the first was answered: each is looked at again.
            self._guard.unread.add(self)
            if self._guard.overfull(self):
                turned_away(Limit.UNREAD)
                self.transport.abort()
                return
        if self.waits_since is None and not self.pipeline:
            self.waits_since = self.loop.time()

    def send_400_response(self, msg: str) -> None:
        """Refuse what can't be parsed, or what `_refusal` says, and close."""
        status = self._refusal or 400
        if status in {413, 414, 431}:
            turned_away(Limit.SIZE)
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()  # in the middle of another answer
            return
        body = msg.encode() if status in {400, 408, 503} else b"Too large."
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
            + b"content-length: %d\r\n\r\n" % len(body)
            + body
        )
        self.transport.close()

    def unread(self) -> int:
        """Bytes of answers that the client has not taken."""
        return 0 if self.transport.is_closing() else self.transport.get_write_buffer_size()

    def end_if_slow(self, now: float) -> None:
        """Cut off a client that takes too long to ask, or to read what it was told."""
        bounds = self._guard.bounds
        if not self.transport.get_write_buffer_size():
            self.unread_since = None
        elif self.unread_since is None:
            self.unread_since = now
        elif now - self.unread_since > bounds.send_seconds:
            self._cut_off("reads")
            return
        since = self.waits_since
        if since is not None and now - since > bounds.receive_seconds:
            self._cut_off("sends")

    def _cut_off(self, what: str) -> None:
        turned_away(Limit.SLOW)
        log.info("slow client cut off", client=self.peer, what=what, bytes=self._fed)
        idle = self.cycle is None or self.cycle.response_complete
        if what == "sends" and idle and not self.transport.is_closing():
            self._refuse(408)
        else:
            self.transport.abort()

    def _refuse(self, status: int) -> None:
        self._refusal = status
        self.send_400_response("The request took too long.")


@functools.lru_cache(maxsize=4096)
def peer_of(address: str) -> str:
    """Who counts as one: an IPv4 address, or the /64 that one IPv6 host may choose from."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and not parsed.ipv4_mapped:
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return address


def connections_at_most(wanted: int) -> int:
    """So many that descriptors remain for everything else, whatever the limit is."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(16, min(wanted, soft - SPARE_FILES, soft * 3 // 4))
