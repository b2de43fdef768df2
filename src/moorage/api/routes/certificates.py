"""/v1/certificates: a cluster's CA, what it signs, and its exchange for another."""

from __future__ import annotations

from moorage.api.answers import Answer, as_json
from moorage.api.context import Asked
from moorage.api.routing import Router
from moorage.api.schemas.certificate import (
    CertificateBody,
    CertificateCreate,
    certificate_body,
)
from moorage.api.schemas.cluster import ClusterAccepted, accepted
from moorage.model.errors import Invalid, NotFound
from moorage.services import CertificateService, ClusterService


def routes(certificates: CertificateService, clusters: ClusterService) -> Router:
    router = Router(prefix="/v1/certificates", tags=["certificates"])

    @router.get("/{ident}", response_model=CertificateBody)
    async def show_ca(asked: Asked, ident: str) -> Answer:
        cluster = await clusters.get(asked.who, ident)
        pem = await certificates.ca(asked.who, cluster.uuid)
        return as_json(certificate_body(cluster.uuid, pem, asked.base_url))

    @router.post(status_code=201, response_model=CertificateBody)
    async def sign_certificate(asked: Asked, body: CertificateCreate) -> Answer:
        try:
            cluster = await clusters.get(asked.who, body.cluster_uuid)
        except NotFound as error:  # not what the URL names, but a wrong field
            raise Invalid(error.reason, field="cluster_uuid") from None
        asked.target = cluster.uuid
        pem = await certificates.sign(asked.who, cluster.uuid, body.csr)
        shaped = certificate_body(
            cluster.uuid, pem, asked.base_url, csr=body.csr, kind=body.ca_cert_type
        )
        return as_json(shaped, 201)

    @router.patch("/{ident}", status_code=202, response_model=ClusterAccepted)
    async def rotate_ca(asked: Asked, ident: str) -> Answer:
        """Has no body: the old CA is good until every node has the new one."""
        cluster = await certificates.rotate(asked.who, ident)
        asked.target = cluster.uuid
        return as_json(accepted(cluster), 202)

    return router
