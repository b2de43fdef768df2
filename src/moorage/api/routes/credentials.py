"""/v1/credentials: what the members of a cluster join it with."""

from __future__ import annotations

from moorage.api.answers import Answer, as_json
from moorage.api.context import Asked
from moorage.api.routing import Router
from moorage.api.schemas.cluster import ClusterAccepted, accepted
from moorage.services import ClusterService


def routes(clusters: ClusterService) -> Router:
    router = Router(prefix="/v1/credentials", tags=["certificates"])

    @router.patch("/{ident}", status_code=202, response_model=ClusterAccepted)
    async def rotate_credentials(asked: Asked, ident: str) -> Answer:
        """Has no body."""
        cluster = await clusters.rotate_credentials(asked.who, ident)
        asked.target = cluster.uuid
        return as_json(accepted(cluster), 202)

    return router
