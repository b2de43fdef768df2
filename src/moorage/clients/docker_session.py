"""The way to the engines of one cluster: TLS with its CA, connections, bounded answers.

What `clients.docker` asks engines with; it has the reasons.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import aiodocker
import aiohttp
from aiohttp.client_proto import ResponseHandler

from moorage.clients.docker_errors import Untrusted
from moorage.clients.docker_wire import plain
from moorage.model.ports import Authority, KeyPair

if TYPE_CHECKING:
    from aiohttp.connector import Connection

NAME = "moorage-conductor"
"""The common name that engines see."""
ANSWER_BYTES = 4 << 20
ANSWER_OBJECTS = 1 << 17
"""Objects and lists in an answer. To parse 4 MiB of nothing else takes a second and 100 MB."""
READABLE = ("application/json", "text/plain")
"""What aiodocker reads to its end. It would unpack an archive, and leave the rest unread."""
IDLE_SECONDS = 1.0
GOODBYE_SECONDS = 0.1
"""For the engine to end a connection that we have closed; until then it may go on sending."""
MOST_QUEUED = 16
"""Answers on one connection that nobody has taken yet. An honest engine gives one a question."""
RENEW_SECONDS = 3600.0
"""Long before a client certificate ends."""


class Wire(ResponseHandler):
    """One connection, which ends where much more comes than was asked for, whatever it is."""

    _received = 0

    def set_response_params(self, **params: Any) -> None:
        self._received = 0  # a question is about to be asked
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        much = self._received > 2 * ANSWER_BYTES or len(self._buffer) > MOST_QUEUED
        if much and self.transport is not None:
            self.transport.abort()


class Answer(aiohttp.ClientResponse):
    """Goes where it was sent only, and is read up to a bound only.

    A stream that may be longer needs a session of another kind.
    """

    revision = ""
    """What the certificate says (`Authority.revision`) of the connection that it came by."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        if connection.transport is not None:
            self.revision = _unit(connection.transport.get_extra_info("peercert"))
        await super().start(connection)
        if self.status in {301, 302, 303, 307, 308}:
            raise Untrusted(f"answered with a redirect ({self.status})")
        if self.content_type not in READABLE and not self.content.at_eof():
            what = plain(self.content_type, 60)
            raise Untrusted(f"did not answer as a Docker Engine does ({what})")
        return self

    async def read(self) -> bytes:
        if self._body is None:
            try:
                self._body = await self._bounded()
            except BaseException:
                self.close()  # nobody else does it soon
                raise
        return await super().read()

    async def _bounded(self) -> bytes:
        body = bytearray()
        async for chunk in self.content.iter_any():
            body += chunk
            if len(body) > ANSWER_BYTES:
                raise Untrusted(f"answered with more than {ANSWER_BYTES >> 20} MiB")
        if body.count(b"{") + body.count(b"[") > ANSWER_OBJECTS:
            raise Untrusted(f"answered with more than {ANSWER_OBJECTS} objects")
        return bytes(body)


class Docker(aiodocker.Docker):
    """One engine, without the checks of its answers' contents."""

    revision = ""
    """What the engine showed at the last ping."""


@dataclass(eq=False, slots=True)
class Session:
    """The way to the engines of one cluster, for some time.

    `revision` is that of the authority which it was begun with.
    """

    revision: str
    born: float
    tls: ssl.SSLContext
    http: aiohttp.ClientSession
    engines: dict[str, Docker] = field(default_factory=dict)
    busy: int = 0
    retired: bool = False
    """Another one has taken its place: it closes when nobody uses it any more."""

    @classmethod
    def begin(cls, authority: Authority) -> Session:
        tls = _tls(authority.certificate, authority.client(NAME))
        return cls(authority.revision, monotonic(), tls, _http(tls))

    def again(self) -> Session:
        """One with the same certificates, and no connection yet."""
        return Session(self.revision, self.born, self.tls, _http(self.tls))

    def fits(self, revision: str) -> bool:
        young = monotonic() - self.born < RENEW_SECONDS
        return young and self.revision == revision and not self.http.closed

    def docker(self, url: str) -> Docker:
        if url not in self.engines:
            self.engines[url] = Docker(
                url=url,
                connector=self.http.connector,
                session=self.http,
                timeout=self.http.timeout,
            )
        return self.engines[url]


def _http(tls: ssl.SSLContext) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        ssl=tls, keepalive_timeout=IDLE_SECONDS, use_dns_cache=False, limit=0
    )
    connector._factory = cast(Any, partial(Wire, loop=asyncio.get_running_loop()))
    connector._ssl_shutdown_timeout = GOODBYE_SECONDS  # as an argument, aiohttp warns of it
    return aiohttp.ClientSession(
        connector=connector,
        response_class=Answer,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=2.0),
        headers={"Accept-Encoding": "identity"},
    )


def _tls(certificate: bytes, pair: KeyPair) -> ssl.SSLContext:
    """Trust in these CAs only. The key passes OpenSSL, which reads paths only, in memory."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=certificate.decode())
    memory = os.memfd_create("client.pem", os.MFD_CLOEXEC)
    try:
        os.write(memory, pair.certificate + pair.key)
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)
    return context


def _unit(certificate: Mapping[str, Any] | None) -> str:
    """The subject's OU, of a verified certificate as `ssl` tells it; empty without."""
    subject = (certificate or {}).get("subject", ())
    pairs = [pair for names in subject for pair in names]
    return next((value for name, value in pairs if name == "organizationalUnitName"), "")
