"""The process that is the embedded Keystone: `python -m moorage.identity.server`.

It prints `ready` on stdout when it answers, and from then on nothing there. It keeps
its state directory in its argv, so that it is told from any other Keystone on the
machine. With `--parent` it is killed by the kernel when that process ends, however
that ended.

Keystone is WSGI, and SQLite has one writer: one thread serves, and two requests that
write can't meet ("database is locked").
"""

from __future__ import annotations

import argparse
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
    import uvicorn  # noqa: PLC0415 - imports come after _bind, on purpose
    from a2wsgi import WSGIMiddleware  # noqa: PLC0415

    from moorage.identity.bootstrap import application  # noqa: PLC0415
    from moorage.identity.home import KeystoneHome  # noqa: PLC0415

    served = application(
        KeystoneHome(options.state),
        identity_url=options.identity_url,
        container_infra_url=options.container_infra_url,
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            os.write(1, b"ready\n")
            os.dup2(2, 1)

    config = uvicorn.Config(
        WSGIMiddleware(served, workers=1),
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
