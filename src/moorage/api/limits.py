"""What a request may hold, looked at before anything is made of it.

A body is JSON of at most `MOST_BYTES`, whether it says its length or comes in chunks,
nested at most `DEEPEST`. All text is text: no NUL, which PostgreSQL can't store, and no
half of a surrogate pair, which is not UTF-8.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moorage.model.errors import Invalid

MOST_BYTES = 256 * 1024
DEEPEST = 32
_JSON_TYPES = frozenset({"application/json", "application/json-patch+json"})


class Limits:
    """Reads the body, whole, and hands it on; or refuses it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            raise Invalid("The URL has a NUL character.")
        if scope["method"] in {"GET", "HEAD"}:
            await self._app(scope, receive, send)
            return
        body = await _read(scope, receive)
        if body:
            _check_type(scope)
            check_json(body)
        handed = False

        async def replay() -> Message:
            nonlocal handed
            if handed:
                return await receive()
            handed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)


async def _read(scope: Scope, receive: Receive) -> bytes:
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if declared.isdigit() and int(declared) > MOST_BYTES:
        _refuse_size()
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Invalid("The request ended before its body.")
        body += message.get("body", b"")
        if len(body) > MOST_BYTES:
            _refuse_size()
        if not message.get("more_body", False):
            return bytes(body)


def _refuse_size() -> NoReturn:
    raise HTTPException(413, f"A body may have {MOST_BYTES} bytes.", {"connection": "close"})


def _check_type(scope: Scope) -> None:
    given = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    kind = given.decode("latin-1").partition(";")[0].strip().lower()
    if kind not in _JSON_TYPES:
        raise HTTPException(415, f"Content-Type must be application/json, not {kind[:80]!r}.")


def check_json(body: bytes) -> None:
    """Raises Invalid for what is not JSON, too deep, or has text that is none."""
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        _refuse_depth()
    except ValueError as error:
        # Of bytes that are no UTF-8, str(error) shows more than anyone wants to read.
        why = error.msg if isinstance(error, json.JSONDecodeError) else "it can't be read"
        raise Invalid(f"The body is not JSON: {why}.") from None
    # A stack of our own: the values are as deep as a tenant pleases.
    pending: list[tuple[Any, int]] = [(value, 1)]
    while pending:
        value, depth = pending.pop()
        if isinstance(value, str):
            _check_text(value)
        elif isinstance(value, dict | list):
            if depth > DEEPEST:
                _refuse_depth()
            if isinstance(value, dict):
                pending.extend((key, depth) for key in value)
                value = value.values()
            pending.extend((inner, depth + 1) for inner in value)


def _check_text(text: str) -> None:
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise Invalid("The body has text with NUL or with half of a surrogate pair.")


def _refuse_depth() -> NoReturn:
    raise Invalid(f"The body is nested deeper than {DEEPEST} levels.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
