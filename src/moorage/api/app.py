"""The API put together."""

from __future__ import annotations

import importlib.metadata

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from moorage.api import errors
from moorage.api.authentication import Authentication
from moorage.api.context import context_of
from moorage.api.limits import Limits
from moorage.api.openapi import describe
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
    describe(api)
    return api


async def _refuse(request: Request, error: Exception) -> Response:
    """What FastAPI itself refuses; all else reaches `Requests`."""
    if isinstance(error, HTTPException) and error.status_code in {404, 405}:
        what = errors.shown(request.scope["path"])
        detail = (
            f"There is nothing at {what}."
            if error.status_code == 404
            else f"{request.method} is not for {what}."
        )
        error = HTTPException(error.status_code, detail, error.headers)
    return errors.response(error, context_of(request).request_id)
