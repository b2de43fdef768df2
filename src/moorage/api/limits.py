"""What a request may hold, looked at before anything is made of it.

A body is JSON of at most `MOST_BYTES`, whether it says its length or comes in chunks,
nested at most `DEEPEST`. All text is text: no NUL, which PostgreSQL can't store, and no
half of a surrogate pair, which is not UTF-8. Numbers fit into 64 bits.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from starlette.exceptions import HTTPException
from starlette.types import Receive

from moorage.api.context import Context
from moorage.api.errors import shown
from moorage.model.errors import Invalid

MOST_BYTES = 256 * 1024
DEEPEST = 32
NOTHING: Final = object()
"""What a request without a body holds: not even null."""
_JSON_TYPES = frozenset({"application/json", "application/json-patch+json"})
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def check_url(asked: Context) -> None:
    """Raises Invalid for a URL with text that is none."""
    if "\0" in asked.path or b"%00" in asked.scope["query_string"]:
        raise Invalid("The URL has a NUL character.")


async def read_json(asked: Context, receive: Receive) -> Any:
    """The body's value, or NOTHING. Raises Invalid; HTTPException (413, 415)."""
    body = await _read(asked, receive)
    if not body:
        return NOTHING
    _check_type(asked)
    return json_value(body)


async def _read(asked: Context, receive: Receive) -> bytes:
    declared = asked.headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared[:20]) > MOST_BYTES:
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


def _check_type(asked: Context) -> None:
    given = asked.headers.get(b"content-type", b"")
    kind = given.decode("latin-1").partition(";")[0].strip().lower()
    if kind not in _JSON_TYPES:
        raise HTTPException(415, f"Content-Type must be application/json, not {kind[:80]!r}.")


def json_value(body: bytes) -> Any:
    """Raises Invalid for what is not JSON, too deep, or has text that is none."""
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        _refuse_depth()
    except ValueError as error:
        # Of bytes that are no UTF-8, str(error) shows more than anyone wants to read.
        why = error.msg if isinstance(error, json.JSONDecodeError) else "it can't be read"
        raise Invalid(f"The body is not JSON: {why}.") from None
    _check_value(value)
    return value


def _check_value(value: Any) -> None:
    # A stack of our own: the values are as deep as a tenant pleases.
    pending: list[tuple[Any, int]] = [(value, 1)]
    while pending:
        value, depth = pending.pop()
        if isinstance(value, str):
            _check_text(value)
        elif isinstance(value, int | float):
            _check_number(value)
        elif isinstance(value, dict | list):
            if depth > DEEPEST:
                _refuse_depth()
            if isinstance(value, dict):
                pending.extend((key, depth) for key in value)
                value = value.values()
            pending.extend((inner, depth + 1) for inner in value)


def _check_text(text: str) -> None:
    if _NO_TEXT.search(text):
        raise Invalid("The body has text with NUL or with half of a surrogate pair.")


def _check_number(number: float) -> None:
    if not -(2**63) <= number < 2**63:
        raise Invalid(f"The body has a number beyond 64 bits: {shown(number)}.")


def _refuse_depth() -> NoReturn:
    raise Invalid(f"The body is nested deeper than {DEEPEST} levels.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
