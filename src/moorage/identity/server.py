"""The process that is the embedded Keystone: `python -m moorage.identity.server`.

It prints `ready` on stdout when it answers, and from then on nothing there. It keeps
its state directory in its argv, so that it is told from any other Keystone on the
machine. With `--parent` it is killed by the kernel when that process ends, however
that ended.

Keystone is WSGI, and SQLite has one writer: one thread serves, and two requests that
write can't meet ("database is locked"). So nobody may keep that thread: the connections are
bounded as the API's are (`connections`), and `intake` stands before it.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def main(argv: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(argv)
    if options.parent:
        _die_with(options.parent)
    # Bound before the slow imports: a port that is taken is known at once.
    listener = _bind(options.host, options.port)
    _serve(options, listener)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="moorage.identity.server", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="Moorage's state directory")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--identity-url", required=True, help="as clients see it, with /v3")
    parser.add_argument("--container-infra-url", required=True, help="with /v1")
    parser.add_argument("--connections", type=int, default=1000, help="that clients may have open")
    parser.add_argument(
        "--connections-per-address", type=int, default=200, help="of one address; 0: any number"
    )
    parser.add_argument("--parent", type=int, help="the pid that started this process")
    return parser


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent's starting thread ends.

    SIGKILL: it can't be missed during the imports, and everything here, SQLite in WAL
    mode above all, bears it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it went before we asked
        sys.exit("the parent process is gone")


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # A Keystone whose parent was killed just now may still be on its way out.
    deadline = time.monotonic() + 3.0
    while True:
        try:
            listener.bind((host, port))
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"can't listen on {host}:{port}: {error.strerror}")
            time.sleep(0.05)
        else:
            return listener


def _serve(options: argparse.Namespace, listener: socket.socket) -> None:
    import structlog  # noqa: PLC0415 - imports come after _bind, on purpose
    import uvicorn  # noqa: PLC0415
    from a2wsgi import WSGIMiddleware  # noqa: PLC0415

    from moorage.connections import Bounds, Guard, connections_at_most  # noqa: PLC0415
    from moorage.identity.bootstrap import application  # noqa: PLC0415
    from moorage.identity.home import KeystoneHome  # noqa: PLC0415
    from moorage.identity.intake import Intake  # noqa: PLC0415

    # Standard error is a file without a bound: what any peer can cause is not written there.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    served = application(
        KeystoneHome(options.state),
        identity_url=options.identity_url,
        container_infra_url=options.container_infra_url,
    )

    guard = Guard(
        Bounds(
            connections=connections_at_most(options.connections),
            each=options.connections_per_address,
        )
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            self.watching = asyncio.create_task(guard.watch())
            os.write(1, b"ready\n")
            os.dup2(2, 1)

    config = uvicorn.Config(
        Intake(WSGIMiddleware(served, workers=1)),
        http=guard.connection,  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="error",
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
