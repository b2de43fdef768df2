"""A tenant's certificate for a cluster: the key is made here and stays here."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from moorage.cli.clusters import path_of
from moorage.cli.failure import Code, Failure
from moorage.cli.files import write_private
from moorage.cli.session import Service

FILES = ("ca.pem", "cert.pem", "key.pem")
"""The names that a docker client expects in DOCKER_CERT_PATH."""
KEY_BITS = 3072


@dataclass(frozen=True, slots=True)
class Credentials:
    """The keys to a cluster's engine API. `api_address`: `tcp://host:port`."""

    cluster: str
    directory: Path
    api_address: str

    def environment(self, address: str | None = None) -> dict[str, str]:
        """What a docker client wants to know, of the cluster or of one node's engine."""
        return {
            "DOCKER_HOST": address or self.api_address,
            "DOCKER_CERT_PATH": str(self.directory),
            "DOCKER_TLS_VERIFY": "1",
        }

    def exports(self) -> list[str]:
        return [f"export {k}={shlex.quote(v)}" for k, v in self.environment().items()]

    def context_line(self) -> str:
        ca, cert, key = (self.directory / name for name in FILES)
        endpoint = f"host={self.api_address},ca={ca},cert={cert},key={key}"
        name = shlex.quote(self.cluster)
        return f"docker context create {name} --docker {shlex.quote(endpoint)}"


def fetch(service: Service, cluster: str, directory: Path, *, force: bool = False) -> Credentials:
    """Make a key and a CSR, have it signed by the cluster's CA, write the three files."""
    there = [name for name in FILES if (directory / name).exists()]
    if there and not force:
        raise Failure(
            f"{directory} has {', '.join(there)} already",
            code=Code.CONFLICT,
            mend="say --force to write over them, or choose another --dir",
        )
    known = service.call("GET", path_of(cluster))
    address = known.get("api_address")
    if not address:
        raise Failure(
            f"cluster {cluster} has no API yet: it is {known['status']}",
            code=Code.CONFLICT,
            mend=f"wait for it: moorage cluster show {cluster}",
        )
    key, csr = _key_and_request(str(known["name"]))
    authority = service.call("GET", f"/certificates/{known['uuid']}")["pem"]
    request = {"cluster_uuid": known["uuid"], "csr": csr.decode()}
    certificate = service.call("POST", "/certificates", request)["pem"]
    for name, data in zip(FILES, (authority.encode(), certificate.encode(), key), strict=True):
        write_private(directory / name, data)
    host = str(address).partition("://")[2] or str(address)
    return Credentials(str(known["name"]), directory, f"tcp://{host}")


def _key_and_request(name: str) -> tuple[bytes, bytes]:
    """An RSA key and a CSR, both PEM: RSA is what every client of the API sends."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}-client"[:64])])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return (
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ),
        csr.public_bytes(serialization.Encoding.PEM),
    )
