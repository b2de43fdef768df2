"""What anyone may read: which versions there are, and whether Moorage is well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from moorage.api.context import context_of
from moorage.api.versions import LEAST, MOST

Ready = Callable[[], Awaitable[None]]
"""Returns where Moorage can do its work; raises RetryLater with what is missing."""

COLLECTIONS = ("clusters", "clustertemplates", "certificates")


def routes(ready: Ready) -> APIRouter:
    router = APIRouter(tags=["versions and health"])

    @router.head("/", include_in_schema=False)
    @router.get("/")
    async def list_versions(request: Request) -> Response:
        """gophercloud reads `min_version` and `max_version`; keystoneauth `id` and `links`."""
        return JSONResponse(
            {
                "name": "Moorage",
                "description": "A multi-tenant container cloud: OpenStack's container-infra API.",
                "versions": [
                    {
                        "id": "v1",
                        "status": "CURRENT",
                        "min_version": f"1.{LEAST}",
                        "max_version": f"1.{MOST}",
                        "links": [_link(f"{context_of(request).base_url}/v1/")],
                    }
                ],
            }
        )

    @router.head("/v1", include_in_schema=False)
    @router.get("/v1")
    async def show_version(request: Request) -> Response:
        base = context_of(request).base_url
        body: dict[str, Any] = {
            "id": "v1",
            "status": "CURRENT",
            "min_version": f"1.{LEAST}",
            "max_version": f"1.{MOST}",
            "media_types": [
                {
                    "base": "application/json",
                    "type": "application/vnd.openstack.magnum.v1+json",
                }
            ],
            "links": [_link(f"{base}/v1/")],
        }
        for name in COLLECTIONS:
            body[name] = [_link(f"{base}/v1/{name}/"), _link(f"{base}/{name}/", "bookmark")]
        return JSONResponse(body)

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz")
    async def show_health() -> Response:
        """This process answers; that is all it says."""
        return JSONResponse({"status": "ok"})

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz")
    async def show_readiness() -> Response:
        """503 with the reason until Moorage can do its work."""
        await ready()
        return JSONResponse({"status": "ready"})

    return router


def _link(href: str, rel: str = "self") -> dict[str, str]:
    return {"href": href, "rel": rel}
