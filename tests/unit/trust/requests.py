"""Certificate requests as clients and attackers make them."""

from __future__ import annotations

from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

ADMIN = ((NameOID.COMMON_NAME, "admin"), (NameOID.ORGANIZATION_NAME, "system:masters"))


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


def request(
    key: object = None,
    *extensions: x509.ExtensionType,
    subject: tuple[tuple[x509.ObjectIdentifier, str], ...] = ADMIN,
    algorithm: hashes.HashAlgorithm | None = None,
) -> bytes:
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in subject])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    signed = builder.sign(key or ec_key(), algorithm or hashes.SHA256())  # type: ignore[arg-type]
    return signed.public_bytes(Encoding.PEM)
