"""Certificates on the wire."""

from __future__ import annotations

from typing_extensions import TypedDict

from moorage.api.links import Link, links
from moorage.api.schemas.common import Sent


class CertificateCreate(Sent):
    """`POST /v1/certificates`: a request to sign. `csr` is PEM."""

    cluster_uuid: str
    csr: str
    ca_cert_type: str | None = None


class CertificateBody(TypedDict):
    """`pem` is a cluster's CA certificate, or the one that was signed for `csr`."""

    cluster_uuid: str
    csr: str | None
    pem: str
    ca_cert_type: str | None
    links: list[Link]


def certificate_body(
    cluster_uuid: str, pem: str, base: str, *, csr: str | None = None, kind: str | None = None
) -> CertificateBody:
    return {
        "cluster_uuid": cluster_uuid,
        "csr": csr,
        "pem": pem,
        "ca_cert_type": kind,
        "links": links(base, "certificates", cluster_uuid),
    }
