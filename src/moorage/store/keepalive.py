"""TCP's own bounds on a connection to PostgreSQL.

Linux asks an idle peer after two hours whether it is there, and gives one that doesn't
acknowledge up after a quarter of one. A machine without power and a firewall that dropped the
connection both look like that. asyncpg has no settings for it.
"""

from __future__ import annotations

import socket

import asyncpg

_OPTIONS = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 10,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 5,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 3,
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 15_000,
}
"""In seconds, the last in milliseconds."""


def keep_alive(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Have the kernel end it within half a minute where the other machine is gone."""
    sock = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        for (level, option), value in _OPTIONS.items():
            sock.setsockopt(level, option, value)
