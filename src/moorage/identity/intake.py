"""Before the one thread that is Keystone: only whole requests reach it, and addresses take turns.

Keystone reads a request's body in its thread, before it knows who asks, and hands its answer out
from there: a peer that sent half a body, or did not read, would hold everybody up. So a body is
here as a whole before the thread has it, and an answer as a whole before the thread is free.

A sign-in with a password, a wrong one too, takes the thread some 70 ms. Whoever waits is taken
by address, one of each after the other: however many one address sends, it stands before another
one once. Who hangs up loses its place. How many may wait is bounded by `connections.Guard`, and
so is the time that a body may take.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from moorage.connections import peer_of

MOST_BODY = 128 * 1024
"""Bytes. What Keystone's API takes has a few KiB; its own limit (oslo.middleware) is 112 KiB."""
_TOO_LARGE = b"The body is too large."


class Intake:
    """An ASGI application before `app`, another one, which serves one request at a time."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._busy = False
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """Those of each address, the address whose turn is next first. No queue is empty."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await _whole(receive)
        if body is None:
            return
        if len(body) > MOST_BODY:
            await _refuse(send)
            return
        for message in await self._served(scope, body, receive):
            await send(message)

    async def _served(self, scope: Scope, body: bytes, receive: Receive) -> list[Message]:
        """The answer, in its turn; none where the client hangs up before."""
        answer: list[Message] = []

        async def given() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def keep(message: Message) -> None:
            answer.append(message)

        address = peer_of(scope["client"][0]) if scope["client"] else ""
        turn = self._stand_in_line(address)
        gone = asyncio.ensure_future(receive())  # all that is left to receive is the end
        try:
            await asyncio.wait((turn, gone), return_when=asyncio.FIRST_COMPLETED)
            if not gone.done():
                await self._app(scope, given, keep)
        finally:
            gone.cancel()
            self._leave(address, turn)
        return answer

    def _stand_in_line(self, address: str) -> asyncio.Future[None]:
        """Is done when the thread is the caller's, who must `_leave` in any case."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._busy:
            self._waiting.setdefault(address, deque()).append(turn)
        else:
            self._busy = True
            turn.set_result(None)
        return turn

    def _leave(self, address: str, turn: asyncio.Future[None]) -> None:
        if not turn.done():
            queue = self._waiting[address]
            queue.remove(turn)
            if not queue:
                del self._waiting[address]
        elif self._waiting:
            following, queue = self._waiting.popitem(last=False)
            queue.popleft().set_result(None)
            if queue:
                self._waiting[following] = queue
        else:
            self._busy = False


async def _whole(receive: Receive) -> bytes | None:
    """The body, or a little more than MOST_BODY of it; None where its client is gone."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > MOST_BODY or not message.get("more_body", False):
            return bytes(body)


async def _refuse(send: Send) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(_TOO_LARGE)),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": _TOO_LARGE})
