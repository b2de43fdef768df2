"""An ASGI application on an address: uvicorn, with `Connection` for its protocol."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from typing import Any

import uvicorn

from moorage.api.acceptor import Acceptor, listening_at
from moorage.connections import Bounds, Guard
from moorage.model.errors import Refused


class Listener:
    """From `run` to `close`. `drain_seconds`: how long requests under way may take then.

    `opened` is set once it listens, at `address`. `tls` None: without.
    """

    def __init__(
        self,
        app: Any,
        host: str,
        port: int,
        bounds: Bounds,
        *,
        drain_seconds: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.guard = Guard(bounds)
        self.opened = asyncio.Event()
        self._place = f"{host}:{port}"
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=self.guard.connection,  # type: ignore[arg-type]
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            # Else a request that was sent ahead would begin in the context of the one before.
            reset_contextvars=True,
            timeout_graceful_shutdown=drain_seconds,  # type: ignore[arg-type]
        )
        self._server = _Server(config, self.opened, tls)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._server.servers[0].sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def run(self) -> None:
        """Serve until `close`. Raises Refused where the address can't be had."""
        watching = asyncio.create_task(self.guard.watch())
        try:
            await self._server.serve()
        except SystemExit:  # uvicorn's word for an address that can't be had
            raise Refused(f"can't listen on {self._place}") from None
        finally:
            watching.cancel()

    def close(self) -> None:
        """Take no more connections; `run` returns when requests under way are answered."""
        self._server.should_exit = True

    def hurry(self) -> None:
        """As `close`, and don't wait for them."""
        self._server.force_exit = True
        self.close()


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, opened: asyncio.Event, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(config)
        self._opened = opened
        self._tls = tls

    async def startup(self, sockets: Any = None) -> None:
        if self._tls is None:
            await super().startup(sockets)
        else:
            self._start_sealed(self._tls)
        self._opened.set()

    def _start_sealed(self, context: ssl.SSLContext) -> None:
        config = self.config

        def protocol() -> asyncio.Protocol:
            return config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state={}
            )

        try:
            listening = listening_at(config.host, config.port)
        except OSError:
            sys.exit(1)  # as uvicorn itself does
        self.servers = [Acceptor(listening, context, protocol)]  # type: ignore[list-item]
        self.started = True

    def capture_signals(self) -> Any:
        """They are the application's: the conductor has to stop as well."""
        return contextlib.nullcontext()
