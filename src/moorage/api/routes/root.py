"""What anyone may read: which versions there are, and whether Moorage is well."""

from __future__ import annotations

from typing_extensions import TypedDict

from moorage.api.answers import Answer, as_json
from moorage.api.context import Asked
from moorage.api.links import Link
from moorage.api.probes import readiness_body
from moorage.api.readiness import Readiness
from moorage.api.routing import Router
from moorage.api.versions import LEAST, MOST

COLLECTIONS = (
    "clustertemplates",
    "clusters",
    "quotas",
    "certificates",
    "credentials",
    "mservices",
    "stats",
    "audit",
    "orphans",
    "catalogue",
    "bays",
    "baymodels",
)


class VersionBody(TypedDict):
    id: str
    status: str
    min_version: str
    max_version: str
    links: list[Link]


class VersionList(TypedDict):
    """gophercloud reads `min_version` and `max_version`; keystoneauth `id` and `links`."""

    name: str
    description: str
    versions: list[VersionBody]


class MediaType(TypedDict):
    base: str
    type: str


class Collections(VersionBody):
    """Version 1 itself, and where its collections are."""

    media_types: list[MediaType]
    nodegroups: list[Link]
    clustertemplates: list[Link]
    clusters: list[Link]
    quotas: list[Link]
    certificates: list[Link]
    credentials: list[Link]
    mservices: list[Link]
    stats: list[Link]
    audit: list[Link]
    orphans: list[Link]
    catalogue: list[Link]
    bays: list[Link]
    baymodels: list[Link]


class State(TypedDict):
    status: str


class Part(TypedDict):
    """`reason`: why it is not well."""

    name: str
    ok: bool
    reason: str | None


class ReadyState(TypedDict):
    """`status`: ready, or not ready where a part is not well."""

    status: str
    parts: list[Part]


def routes(ready: Readiness) -> Router:
    router = Router(tags=["versions and health"])

    @router.route("HEAD", "/", include_in_schema=False)
    @router.get("/", response_model=VersionList)
    async def list_versions(asked: Asked) -> Answer:
        return as_json(
            {
                "name": "Moorage",
                "description": "A multi-tenant container cloud: OpenStack's container-infra API.",
                "versions": [_version(asked.base_url)],
            }
        )

    @router.route("HEAD", "/v1", include_in_schema=False)
    @router.get("/v1", response_model=Collections)
    async def show_version(asked: Asked) -> Answer:
        base = asked.base_url
        media = {"base": "application/json", "type": "application/vnd.openstack.magnum.v1+json"}
        return as_json(
            {
                **_version(base),
                "media_types": [media],
                "nodegroups": _both(base, "clusters/{cluster_id}/nodegroups"),
                **{name: _both(base, f"{name}/") for name in COLLECTIONS},
            }
        )

    @router.route("HEAD", "/healthz", include_in_schema=False)
    @router.get("/healthz", response_model=State)
    async def show_health(asked: Asked) -> Answer:
        """This process answers; that is all it says."""
        del asked
        return as_json({"status": "ok"})

    @router.route("HEAD", "/readyz", include_in_schema=False)
    @router.get("/readyz", response_model=ReadyState, responses={503: {"model": ReadyState}})
    async def show_readiness(asked: Asked) -> Answer:
        """503 where a part of what Moorage needs is not well, or it is stopping."""
        del asked
        status, body = await readiness_body(ready)
        return as_json(body, status)

    return router


def _version(base: str) -> VersionBody:
    return {
        "id": "v1",
        "status": "CURRENT",
        "min_version": f"1.{LEAST}",
        "max_version": f"1.{MOST}",
        "links": [{"href": f"{base}/v1/", "rel": "self"}],
    }


def _both(base: str, path: str) -> list[Link]:
    return [
        {"href": f"{base}/v1/{path}", "rel": "self"},
        {"href": f"{base}/{path}", "rel": "bookmark"},
    ]
