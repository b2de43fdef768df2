"""OpenAPI: what FastAPI knows of the routes, and what the application itself asks and answers."""

from __future__ import annotations

import functools
import http
import importlib.metadata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from starlette.routing import BaseRoute

from moorage.api.answers import Answer, as_json
from moorage.api.authentication import PUBLIC
from moorage.api.context import CHANGING, Asked
from moorage.api.errors import Errors, KeystoneErrors
from moorage.api.routing import Route
from moorage.api.versions import LEAST, MOST, bounds_of

_REFERENCE = "#/components/schemas/{model}"
_ALWAYS = (400, 403, 406, 500, 503)
"""Statuses that every route with a token may answer with, beside 401."""
_CHANGES = (409, 413, 415, 429)


def description(routes: Sequence[Route]) -> Route:
    """The route that describes all the others.

    FastAPI's own routes are made when somebody asks: they take a while, and some memory.
    """

    @functools.cache
    def schema() -> dict[str, Any]:
        plain = get_openapi(
            title="Moorage",
            version=importlib.metadata.version("moorage"),
            summary="OpenStack's container-infra API",
            routes=_described(routes),
        )
        return _completed(plain)

    async def show_description(asked: Asked) -> Answer:
        del asked
        return as_json(schema())

    return Route("GET", "/openapi.json", show_description, {"include_in_schema": False})


def _described(routes: Iterable[Route]) -> list[BaseRoute]:
    router = APIRouter()
    for route in routes:
        router.add_api_route(route.path, route.handler, methods=[route.method], **route.described)
    return router.routes


def _completed(schema: dict[str, Any]) -> dict[str, Any]:
    """With token, version header and refusals, and each route's own versions."""
    components = schema.setdefault("components", {})
    components["securitySchemes"] = {
        "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}
    }
    schema["security"] = [{"token": []}]
    shapes = components.setdefault("schemas", {})
    for model in (Errors, KeystoneErrors):
        described = TypeAdapter(model).json_schema(ref_template=_REFERENCE)
        shapes |= described.pop("$defs", {})
        shapes[model.__name__] = described
    for name in ("HTTPValidationError", "ValidationError"):
        shapes.pop(name, None)
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            operation.setdefault("parameters", []).append(_version_header(path))
            responses = operation["responses"]
            responses.pop("422", None)  # it is a 400 here
            for status in _refusals(path, method.upper()):
                responses.setdefault(str(status), _refusal(status))
            if path in PUBLIC:
                operation["security"] = []
    return schema


def _version_header(path: str) -> dict[str, Any]:
    since, until = bounds_of(path)
    text = f"container-infra 1.{since} to 1.{until}, or latest"
    return {
        "name": "OpenStack-API-Version",
        "in": "header",
        "required": since > LEAST,
        "description": text if since > LEAST else f"{text}; 1.{LEAST} without it.",
        "schema": {
            "type": "string",
            "enum": [
                *(f"container-infra 1.{minor}" for minor in range(since, until + 1)),
                "container-infra latest",
            ],
            "example": f"container-infra 1.{min(until, MOST)}",
        },
    }


def _refusals(path: str, method: str) -> Iterator[int]:
    yield from _ALWAYS
    if path not in PUBLIC:
        yield 401
    if "{" in path:
        yield 404
    if method in CHANGING:
        yield from _CHANGES


def _refusal(status: int) -> dict[str, Any]:
    model = KeystoneErrors if status == 401 else Errors
    reference = {"$ref": _REFERENCE.format(model=model.__name__)}
    return {
        "description": f"{http.HTTPStatus(status).phrase}, with the reason.",
        "content": {"application/json": {"schema": reference}},
    }
