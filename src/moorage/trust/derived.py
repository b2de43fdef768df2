"""What follows from a cluster's secret, and so need not be kept: keys, and CAs of its own.

The secret outlives every CA of its cluster. Of two purposes neither result tells anything of
the other, nor of the secret.
"""

from __future__ import annotations

import datetime
import secrets

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

SECRET_BYTES = 32
"""Of a cluster's secret."""
BEGIN = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
END = datetime.datetime(2119, 12, 31, tzinfo=datetime.UTC)
"""Of such a CA: all of its certificate has to follow from its key, the dates too."""
_ORDER = int("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
"""Of the group on P-256 (FIPS 186-5, SEC 2)."""


def new_secret() -> bytes:
    """A new cluster's."""
    return secrets.token_bytes(SECRET_BYTES)


def derived(secret: bytes, purpose: str, length: int) -> bytes:
    """So many bytes for one purpose, by HKDF with SHA-256 (RFC 5869)."""
    info = f"moorage {purpose}".encode()
    return HKDF(hashes.SHA256(), length=length, salt=None, info=info).derive(secret)


def signing_key(secret: bytes) -> bytes:
    """A key on P-256 that follows from the secret, PEM (SEC 1: Kubernetes reads no other)."""
    key = _key(secret)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def inner_ca(name: str, secret: bytes) -> tuple[bytes, bytes]:
    """The certificate and the key of a CA, PEM. Its signature is deterministic (RFC 6979)."""
    key = _key(secret)
    number = int.from_bytes(derived(secret, "serial", 16))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    public = key.public_key()
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(number)
        .not_valid_before(BEGIN)
        .not_valid_after(END)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    )
    return certificate.public_bytes(Encoding.PEM), signing_key(secret)


def _key(secret: bytes) -> ec.EllipticCurvePrivateKey:
    """16 bytes more than the order has make every key as likely (FIPS 186-5, A.2.1)."""
    number = int.from_bytes(derived(secret, "key", 48)) % (_ORDER - 1) + 1
    return ec.derive_private_key(number, ec.SECP256R1())
