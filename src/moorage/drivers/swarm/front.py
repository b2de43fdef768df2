"""What stands before a node's engine: HAProxy, which speaks TLS on the engine's port.

An engine reads its certificates at its start only, and its start ends its containers.
HAProxy takes new ones by a reload: a new worker gets the listening socket, the old one
keeps the connections that it has, and nobody is turned away. What must stay true:

- A client whose certificate is not of a CA in CA reaches nothing behind it. Sessions are
  not resumed, so every connection is judged by what the nodes trust at that time.
- Of a stream (`docker exec`, `events`, `logs -f`) either side may be silent for ever, or
  have ended its half. Only who does not end the handshake runs out of time (`timeout
  client`; once a connection is through, `timeout tunnel` takes its place), and a peer that
  is gone is found by TCP's keep-alive.
- Former workers don't pile up: none outlives STOP_AFTER, nor many more reloads.
"""

from __future__ import annotations

from moorage.clients.docker import PORT
from moorage.model.ports import KeyPair

CONFIG = "etc/docker/front.cfg"
CA = "etc/docker/tls/ca.pem"
SERVER = "etc/docker/tls/server.pem"
"""The server's certificate, what stands between it and its CA, and its key."""
SOCKET = "/run/docker.sock"
"""Where the engine itself listens."""
CONNECTIONS = 1000
STOP_AFTER = "10m"
"""How long a connection may outlive the trust that let it in."""


def config() -> bytes:
    """The configuration of HAProxy, 2.4 and later."""
    return f"""\
global
    maxconn {CONNECTIONS}
    nbthread 1
    hard-stop-after {STOP_AFTER}
    mworker-max-reloads 10
    stats socket /run/docker/front.sock mode 600 level operator expose-fd listeners
    tune.ssl.cachesize 0

listen engine
    mode tcp
    bind 0.0.0.0:{PORT} ssl crt /{SERVER} ca-file /{CA} verify required ssl-min-ver TLSv1.2 \
no-tls-tickets
    server engine unix@{SOCKET}
    retries 0
    timeout connect 5s
    timeout client 10s
    timeout server 10s
    timeout tunnel 24d
    option clitcpka
    clitcpka-idle 60s
    clitcpka-intvl 15s
    clitcpka-cnt 4
""".encode()


def files(ca: bytes, pair: KeyPair) -> dict[str, bytes]:
    """What HAProxy reads, by path without the leading slash."""
    return {CA: ca, SERVER: pair.certificate + pair.key, CONFIG: config()}
