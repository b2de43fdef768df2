"""OpenAPI, as far as FastAPI can't know it: what the middlewares ask for and answer."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter

from moorage.api.authentication import PUBLIC
from moorage.api.errors import Errors
from moorage.api.versions import LEAST, MOST

_REFERENCE = "#/components/schemas/{model}"
_VERSION = {
    "name": "OpenStack-API-Version",
    "in": "header",
    "description": f"container-infra 1.{LEAST} to 1.{MOST}, or latest; 1.{LEAST} without it.",
    "schema": {"type": "string", "example": f"container-infra 1.{MOST}"},
}


def describe(api: FastAPI) -> None:
    """Have `api` serve a description with X-Auth-Token, the version header and the errors."""
    plain = api.openapi

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            api.openapi_schema = _completed(plain())
        return api.openapi_schema

    api.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's manual has it


def _completed(schema: dict[str, Any]) -> dict[str, Any]:
    components = schema.setdefault("components", {})
    components["securitySchemes"] = {
        "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}
    }
    schema["security"] = [{"token": []}]
    shapes = components.setdefault("schemas", {})
    described = TypeAdapter(Errors).json_schema(ref_template=_REFERENCE)
    shapes |= described.pop("$defs")
    shapes["Errors"] = described
    for name in ("HTTPValidationError", "ValidationError"):
        shapes.pop(name, None)
    reference = {"$ref": _REFERENCE.format(model="Errors")}
    error = {
        "description": "Refused, with the reason.",
        "content": {"application/json": {"schema": reference}},
    }
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            operation.setdefault("parameters", []).append(_VERSION)
            operation["responses"].pop("422", None)  # it is a 400 here
            operation["responses"]["default"] = error
            if path in PUBLIC:
                operation["security"] = []
    return schema
