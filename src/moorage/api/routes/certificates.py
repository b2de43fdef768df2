"""/v1/certificates: a cluster's CA, and what it signs."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.context import caller_of, context_of
from moorage.api.routes.answers import as_json
from moorage.api.schemas.certificate import CertificateBody, CertificateCreate, certificate_json
from moorage.model.errors import Invalid, NotFound
from moorage.services import CertificateService, ClusterService


def routes(certificates: CertificateService, clusters: ClusterService) -> APIRouter:
    router = APIRouter(prefix="/v1/certificates", tags=["certificates"])

    @router.get("/{ident}", response_model=CertificateBody)
    async def show_ca(request: Request, ident: str) -> Response:
        caller = caller_of(request)
        cluster = await clusters.get(caller, ident)
        pem = await certificates.ca(caller, cluster.uuid)
        return as_json(certificate_json(cluster.uuid, pem, context_of(request).base_url))

    @router.post("", status_code=201, response_model=CertificateBody)
    async def sign_certificate(request: Request, body: CertificateCreate) -> Response:
        caller = caller_of(request)
        try:
            cluster = await clusters.get(caller, body.cluster_uuid)
        except NotFound as error:  # not what the URL names, but a wrong field
            raise Invalid(error.reason, field="cluster_uuid") from None
        pem = await certificates.sign(caller, cluster.uuid, body.csr)
        base = context_of(request).base_url
        return as_json(
            certificate_json(cluster.uuid, pem, base, csr=body.csr, kind=body.ca_cert_type), 201
        )

    return router
