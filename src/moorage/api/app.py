"""The API put together."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from moorage.api import errors
from moorage.api.authentication import PUBLIC, Authentication
from moorage.api.context import context_of
from moorage.api.limits import Limits
from moorage.api.requests import Requests
from moorage.api.routes import certificates as certificate_routes
from moorage.api.routes import clusters as cluster_routes
from moorage.api.routes import root
from moorage.api.routes import templates as template_routes
from moorage.api.versions import Versions
from moorage.model.ports import TokenValidator
from moorage.services import CertificateService, ClusterService, TemplateService


def create_api(
    *,
    templates: TemplateService,
    clusters: ClusterService,
    certificates: CertificateService,
    validator: TokenValidator,
    ready: root.Ready,
    identity_url: str,
    trust_proxy: bool = False,
) -> FastAPI:
    """The ASGI application.

    `identity_url` is told to whoever comes without a token. `trust_proxy`: a proxy in
    front of it sets X-Forwarded-Proto and -Host, and no client can.
    """
    api = FastAPI(
        title="Moorage",
        version=importlib.metadata.version("moorage"),
        summary="OpenStack's container-infra API",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: _refuse, RequestValidationError: _refuse},
        middleware=[
            Middleware(Requests, identity_url=identity_url, trust_proxy=trust_proxy),
            Middleware(Versions),
            Middleware(Authentication, validator=validator),
            Middleware(Limits),
        ],
    )
    api.include_router(root.routes(ready))
    api.include_router(template_routes.routes(templates))
    api.include_router(cluster_routes.routes(clusters))
    api.include_router(certificate_routes.routes(certificates, clusters))
    _describe_token(api)
    return api


async def _refuse(request: Request, error: Exception) -> Response:
    """What FastAPI itself refuses; all else reaches `Requests`."""
    return errors.response(error, context_of(request).request_id)


def _describe_token(api: FastAPI) -> None:
    """Tell OpenAPI of X-Auth-Token, which `Authentication` and no route asks for."""
    described = api.openapi

    def openapi() -> dict[str, Any]:
        schema = described()
        schemes = schema.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["token"] = {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}
        schema["security"] = [{"token": []}]
        for path in PUBLIC & schema["paths"].keys():
            for operation in schema["paths"][path].values():
                operation["security"] = []
        return schema

    api.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's manual has it
