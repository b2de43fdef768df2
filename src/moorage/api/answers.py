"""Answers whose bytes are ready."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

_JSON = (b"content-type", b"application/json")
_encode = msgspec.json.Encoder().encode


class Answer(Response):
    """JSON bytes, or nothing. `reason` is why a request was refused."""

    def __init__(
        self,
        body: bytes = b"",
        status: int = 200,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        *,
        reason: str | None = None,
    ) -> None:
        # Not Response's own: it would look at every header again.
        self.body = body
        self.status_code = status
        self.background = None
        self.reason = reason
        self.raw_headers = [*headers]
        if status != 204:
            self.raw_headers += (_JSON, (b"content-length", b"%d" % len(body)))


def as_json(shaped: object, status: int = 200) -> Answer:
    """`shaped` is dicts, lists and plain values."""
    return Answer(_encode(shaped), status)


def created(shaped: Mapping[str, Any]) -> Answer:
    """201, and where it is: the first of its links."""
    location: str = shaped["links"][0]["href"]
    return Answer(_encode(shaped), 201, ((b"location", location.encode("latin-1")),))


def nothing() -> Answer:
    return Answer(status=204)
