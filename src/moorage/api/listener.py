"""An ASGI application on an address: uvicorn, with `Connection` for its protocol."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import uvicorn

from moorage.connections import Bounds, Guard
from moorage.model.errors import Refused


class Listener:
    """From `run` to `close`. `drain_seconds`: how long requests under way may take then.

    `opened` is set once it listens, at `address`.
    """

    def __init__(
        self, app: Any, host: str, port: int, bounds: Bounds, *, drain_seconds: float
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
        self._server = _Server(config, self.opened)

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
    def __init__(self, config: uvicorn.Config, opened: asyncio.Event) -> None:
        super().__init__(config)
        self._opened = opened

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._opened.set()

    def capture_signals(self) -> Any:
        """They are the application's: the conductor has to stop as well."""
        return contextlib.nullcontext()
