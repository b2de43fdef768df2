"""/v1/clusters/{ident}/actions: resize and upgrade."""

from __future__ import annotations

from moorage.api.answers import Answer, as_json
from moorage.api.context import Asked
from moorage.api.routes.clusters import allows_zero
from moorage.api.routing import Router
from moorage.api.schemas.cluster import (
    ClusterAccepted,
    ClusterResize,
    ClusterUpgrade,
    accepted,
)
from moorage.services import ClusterService


def routes(clusters: ClusterService) -> Router:
    router = Router(prefix="/v1/clusters/{ident}/actions", tags=["clusters"])

    @router.post("/resize", status_code=202, response_model=ClusterAccepted)
    async def resize_cluster(asked: Asked, ident: str, body: ClusterResize) -> Answer:
        cluster = await clusters.resize(
            asked.who, ident, body.wanted(), allow_zero=allows_zero(asked)
        )
        asked.target = cluster.uuid
        return as_json(accepted(cluster), 202)

    @router.post("/upgrade", status_code=202, response_model=ClusterAccepted)
    async def upgrade_cluster(asked: Asked, ident: str, body: ClusterUpgrade) -> Answer:
        cluster = await clusters.upgrade(asked.who, ident, body.wanted())
        asked.target = cluster.uuid
        return as_json(accepted(cluster), 202)

    return router
