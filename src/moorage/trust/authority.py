"""A cluster's certificate authority: one self-signed root, which signs leaves directly.

Keys that we make are ECDSA P-256 (a key and its certificate in well under a
millisecond, which is what lets a cluster be made in a second). Each leaf serves one
purpose: a server certificate can't be a client's, so that a node which leaks its own
does not open the engines. `not_before` lies a little back, for clocks that differ.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from moorage.model.ports import KeyPair
from moorage.trust import csr as requests

SKEW = datetime.timedelta(minutes=5)
DAY = datetime.timedelta(days=1)
CA_LIFE, SERVER_LIFE, TENANT_LIFE, CONDUCTOR_LIFE = 3650 * DAY, 1825 * DAY, 365 * DAY, DAY
NAME_BYTES = 64
"""What X.509 (RFC 5280, ub-common-name) leaves a common name."""


class ClusterAuthority:
    """`model.ports.Authority` over a key pair. Its key is read from PEM at the first use."""

    def __init__(self, pair: KeyPair) -> None:
        self.pair = pair

    @classmethod
    def create(cls, name: str) -> ClusterAuthority:
        """A new CA, whose common name is `name` (cut to the 64 bytes that X.509 allows)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject, now = _named(name), _now()
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SKEW)
            .not_valid_after(now + CA_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(identifier, critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(KeyPair(certificate.public_bytes(Encoding.PEM), _pem(key)))

    @property
    def certificate(self) -> bytes:
        """The CA's own certificate, PEM."""
        return self.pair.certificate

    def server(self, name: str, addresses: Sequence[str]) -> KeyPair:
        """A new server certificate for the DNS name `name`, and IP addresses or further names."""
        names = [_general_name(name), *map(_general_name, addresses)]
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._issue(
            _named(name),
            key.public_key(),
            ExtendedKeyUsageOID.SERVER_AUTH,
            SERVER_LIFE,
            x509.SubjectAlternativeName(names),
        )
        return KeyPair(certificate, _pem(key))

    def client(self, name: str) -> KeyPair:
        """A new client certificate with the common name `name`, for a day."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._issue(
            _named(name), key.public_key(), ExtendedKeyUsageOID.CLIENT_AUTH, CONDUCTOR_LIFE
        )
        return KeyPair(certificate, _pem(key))

    def sign(self, csr: bytes) -> bytes:
        """A client certificate, for a year, for a tenant's request (PEM).

        Raises Invalid (field `csr`) for what `moorage.trust.csr` does not let pass.
        """
        request = requests.read(csr)
        return self._issue(
            request.subject, request.key, ExtendedKeyUsageOID.CLIENT_AUTH, TENANT_LIFE
        )

    def _issue(
        self,
        subject: x509.Name,
        key: requests.ClientKey,
        purpose: ObjectIdentifier,
        life: datetime.timedelta,
        names: x509.SubjectAlternativeName | None = None,
    ) -> bytes:
        now = _now()
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SKEW)
            .not_valid_after(min(now + life, self._certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(rsa_key=isinstance(key, rsa.RSAPublicKey)), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(self._identifier, critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    @cached_property
    def _certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.pair.certificate)

    @cached_property
    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        own = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)

    @cached_property
    def _key(self) -> ec.EllipticCurvePrivateKey:
        key = load_pem_private_key(self.pair.key, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"a cluster's CA key is ECDSA, not {type(key).__name__}")
        return key


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _named(name: str) -> x509.Name:
    short = name.encode()[:NAME_BYTES].decode(errors="ignore")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, short)])


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _key_usage(*, authority: bool = False, rsa_key: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=rsa_key,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
