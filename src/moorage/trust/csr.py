"""What a tenant may ask a cluster's CA to sign: a client's certificate, and no more.

Of a request only the public key and the subject's plain names are used. All that it
asks for beyond that is refused rather than left out, so that nobody believes they hold
a certificate for something it does not serve. What clients really send:
python-magnumclient RSA-2048 with CN=admin and O=system:masters, without extensions;
the Terraform provider the same with RSA-4096 and SHA-512.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from moorage.model.errors import Invalid

LARGEST = 64 * 1024
"""Bytes. Checked before anything is parsed."""
RSA_BITS = range(2048, 8192 + 1)
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
NAMES = (
    NameOID.COMMON_NAME,
    NameOID.ORGANIZATION_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.COUNTRY_NAME,
    NameOID.STATE_OR_PROVINCE_NAME,
    NameOID.LOCALITY_NAME,
)
MOST_NAMES = 16
ADMINS = "system:masters"
"""What clients ask for who don't know better; nobody is given it."""

ClientKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """A request that passed: whose name, and which public key."""

    subject: x509.Name
    key: ClientKey


def read(pem: bytes) -> ClientRequest:
    """Check a PEM request and take from it what a client certificate needs.

    Raises Invalid (field `csr`) with the first thing that is wrong with it.
    """
    request = _parse(pem)
    try:
        key = _strong_key(request)
        subject = _plain_subject(request)
        for extension in request.extensions:
            _refuse_unless_harmless(extension)
        # Last: it is the one check whose cost the sender chooses (within RSA_BITS).
        if not request.is_signature_valid:
            raise _bad("its signature does not fit its key")
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise _bad(f"it can't be read: {error}") from error
    return ClientRequest(subject, key)


def refuse_system(request: ClientRequest) -> None:
    """Raises Invalid (field `csr`) for a name that Kubernetes gives to its own programs.

    But for what OpenStack's clients always ask for, CN=admin and O=system:masters.
    """
    for attribute in request.subject:
        value = str(attribute.value)
        admins = attribute.oid == NameOID.ORGANIZATION_NAME and value == ADMINS
        if value.startswith("system:") and not admins:
            raise _bad(f"{value} is a name of Kubernetes' own programs")


def named(name: str, group: str) -> x509.Name:
    """The subject of a client of that name and group; the name cut to what X.509 has room for."""
    short = name.encode()[:64].decode(errors="ignore")
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, short),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, group),
        ]
    )


def _bad(what: str) -> Invalid:
    return Invalid(f"The certificate request was refused: {what}.", field="csr")


def _parse(pem: bytes) -> x509.CertificateSigningRequest:
    if len(pem) > LARGEST:
        raise _bad(f"it has {len(pem)} bytes, and {LARGEST} are allowed")
    if pem.count(b"-----BEGIN ") != 1:
        raise _bad("it must be one PEM block, 'BEGIN CERTIFICATE REQUEST'")
    try:
        return x509.load_pem_x509_csr(pem)
    except (ValueError, x509.InvalidVersion) as error:
        raise _bad("it is not a PKCS #10 request in PEM") from error


def _strong_key(request: x509.CertificateSigningRequest) -> ClientKey:
    key = request.public_key()
    match key:
        case rsa.RSAPublicKey():
            if key.key_size not in RSA_BITS:
                raise _bad(
                    f"its RSA key has {key.key_size} bits; "
                    f"{RSA_BITS.start} to {RSA_BITS.stop - 1} are allowed"
                )
        case ec.EllipticCurvePublicKey():
            if not isinstance(key.curve, CURVES):
                raise _bad(
                    f"its key is on the curve {key.curve.name}; P-256, P-384 and P-521 are allowed"
                )
        case ed25519.Ed25519PublicKey():
            return key  # its signatures bring their own hash
        case _:
            raise _bad("its key must be RSA, ECDSA or Ed25519")
    if not isinstance(request.signature_hash_algorithm, HASHES):
        raise _bad("it must be signed with SHA-256, SHA-384 or SHA-512")
    return key


def _plain_subject(request: x509.CertificateSigningRequest) -> x509.Name:
    attributes = list(request.subject)
    if not any(attribute.oid == NameOID.COMMON_NAME for attribute in attributes):
        raise _bad("its subject has no common name (CN)")
    if len(attributes) > MOST_NAMES:
        raise _bad(f"its subject has {len(attributes)} names, and {MOST_NAMES} are allowed")
    for attribute in attributes:
        if attribute.oid not in NAMES:
            raise _bad(f"its subject has a name of type {attribute.oid.dotted_string}")
        if not isinstance(attribute.value, str) or not attribute.value.isprintable():
            raise _bad("its subject has a name that is not printable text")
        if not 1 <= len(attribute.value.encode()) <= 64:
            raise _bad("each name in its subject must have 1 to 64 bytes")
    # Written anew, so that nothing of the sender's encoding reaches our certificate.
    return x509.Name([x509.NameAttribute(a.oid, a.value) for a in attributes])


def _refuse_unless_harmless(extension: x509.Extension[x509.ExtensionType]) -> None:
    match extension.value:
        case x509.BasicConstraints(ca=True):
            raise _bad("it asks to be a certificate authority (CA:TRUE)")
        case x509.KeyUsage(key_cert_sign=True) | x509.KeyUsage(crl_sign=True):
            raise _bad("its key usage asks to sign certificates or CRLs")
        case x509.ExtendedKeyUsage() as usage:
            if set(usage) != {ExtendedKeyUsageOID.CLIENT_AUTH}:
                raise _bad("its extended key usage asks for more than clientAuth")
        case x509.SubjectAlternativeName():
            raise _bad("it asks for subject alternative names, which clients don't need")
        case x509.BasicConstraints() | x509.KeyUsage() | x509.SubjectKeyIdentifier():
            return
        case _:
            oid = extension.oid
            raise _bad(f"it asks for the extension {oid.dotted_string} ({oid._name})")
