"""Answers whose bytes are ready: FastAPI sends them as they are, without a second look."""

from __future__ import annotations

from starlette.responses import Response


def as_json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def nothing() -> Response:
    return Response(status_code=204)
