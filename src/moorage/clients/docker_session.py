"""The way to the engines of one cluster: TLS with its CA, connections, bounded answers.

What `clients.docker` asks engines with; it has the reasons.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

import aiodocker
import aiohttp

from moorage.model.ports import Authority, KeyPair

if TYPE_CHECKING:
    from aiohttp.connector import Connection

NAME = "moorage-conductor"
"""The common name that engines see."""
ANSWER_BYTES = 4 << 20
ARCHIVE = "application/x-tar"
IDLE_SECONDS = 5.0
RENEW_SECONDS = 3600.0
"""Long before a client certificate ends."""


class Untrusted(aiohttp.ClientError):
    """An answer that no Docker Engine gives."""


class Answer(aiohttp.ClientResponse):
    """Goes where it was sent only, and is read up to a bound only (streams are not bounded)."""

    revision = ""
    """What the certificate says (`Authority.revision`) of the connection that it came by."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        if connection.transport is not None:
            self.revision = _unit(connection.transport.get_extra_info("peercert"))
        await super().start(connection)
        if self.status in {301, 302, 303, 307, 308}:
            raise Untrusted(f"answered with a redirect ({self.status})")
        if self.content_type == ARCHIVE:
            raise Untrusted("answered with an archive")  # which aiodocker would open
        return self

    async def read(self) -> bytes:
        if self._body is None:
            body = bytearray()
            async for chunk in self.content.iter_any():
                body += chunk
                if len(body) > ANSWER_BYTES:
                    self.close()
                    raise Untrusted(f"answered with more than {ANSWER_BYTES >> 20} MiB")
            self._body = bytes(body)
        return await super().read()


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
