"""A cluster's certificate authority: one self-signed root, which signs leaves directly.

Keys that we make are ECDSA P-256 (a key and its certificate in well under a
millisecond, which is what lets a cluster be made in a second). Each leaf serves one
purpose: a server certificate can't be a client's, so that a node which leaks its own
does not open the engines. `not_before` lies a little back, for clocks that differ.

A CA is changed without a moment in which anybody is turned away (`model.cluster.Rotation`):

    TRUST   leaves are the current CA's        clients and nodes trust both
    SERVE   leaves are the coming CA's, and    clients and nodes trust both
            servers show its certificate as
            the current CA has signed it
    then    leaves are the coming CA's         it alone is trusted

In SERVE a client that knows only the current CA finds its way by that cross-signed
certificate; therefore a CA may have one intermediate below it (`path_length=1`).
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import secrets
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

from moorage.model.cluster import Rotation
from moorage.model.errors import Refused
from moorage.model.ports import CaKeys, KeyPair
from moorage.trust import csr as requests
from moorage.trust.derived import derived, inner_ca, signing_key

SKEW = datetime.timedelta(minutes=5)
DAY = datetime.timedelta(days=1)
CA_LIFE, SERVER_LIFE, TENANT_LIFE, CONDUCTOR_LIFE = 3650 * DAY, 1825 * DAY, 365 * DAY, DAY
NAME_BYTES = 64
"""What X.509 (RFC 5280, ub-common-name) leaves a common name."""
SUFFIX_BYTES = 4
"""What tells the names of two CAs of one cluster apart."""


def new_ca(name: str) -> KeyPair:
    """A new CA for the cluster `name`. Its common name is that (cut short) and a suffix."""
    key = ec.generate_private_key(ec.SECP256R1())
    suffix = f" {secrets.token_hex(SUFFIX_BYTES)}"
    subject = x509.Name([_common_name(name, NAME_BYTES - len(suffix), suffix)])
    certificate = _ca_certificate(subject, key.public_key(), subject, key, path_length=1)
    return KeyPair(certificate, _pem(key))


class ClusterAuthority:
    """`model.ports.Authority` over the CA's keys, which are read from PEM at the first use."""

    def __init__(self, keys: CaKeys) -> None:
        self._keys = keys
        serves = keys.coming if keys.rotation is Rotation.SERVE else None
        self._issuer = serves or keys.current

    @property
    def certificate(self) -> bytes:
        """What to trust, PEM: the CA's own certificate; two while the CA is being changed."""
        coming = self._keys.coming if self._keys.rotation else None
        return self._keys.current.certificate + (coming.certificate if coming else b"")

    @property
    def revision(self) -> str:
        """What nodes trust and show by now, as 16 hexadecimal digits."""
        return hashlib.sha256(self.certificate + self._issuer.certificate).hexdigest()[:16]

    def server(self, name: str, addresses: Sequence[str]) -> KeyPair:
        """A new server certificate for the DNS name `name`, and IP addresses or further names.

        The subject's OU is `revision`. In SERVE the coming CA's certificate follows it, as
        the current CA has signed it.
        """
        return self._serving(name, addresses, [ExtendedKeyUsageOID.SERVER_AUTH])

    def _serving(
        self, name: str, addresses: Sequence[str], purposes: Sequence[ObjectIdentifier]
    ) -> KeyPair:
        names = [_general_name(name), *map(_general_name, addresses)]
        key = ec.generate_private_key(ec.SECP256R1())
        unit = x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, self.revision)
        certificate = self._issue(
            x509.Name([_common_name(name, NAME_BYTES), unit]),
            key.public_key(),
            purposes,
            SERVER_LIFE,
            x509.SubjectAlternativeName(names),
        )
        return KeyPair(certificate + self._chain, _pem(key))

    def client(self, name: str, groups: Sequence[str] = (), *, lasting: bool = False) -> KeyPair:
        """A new client certificate, for a day, or as long as a server's."""
        key = ec.generate_private_key(ec.SECP256R1())
        units = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        certificate = self._issue(
            x509.Name([_common_name(name, NAME_BYTES), *units]),
            key.public_key(),
            [ExtendedKeyUsageOID.CLIENT_AUTH],
            SERVER_LIFE if lasting else CONDUCTOR_LIFE,
        )
        return KeyPair(certificate, _pem(key))

    def peer(self, name: str, addresses: Sequence[str]) -> KeyPair:
        """As `server`, and good for a client as well."""
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._serving(name, addresses, both)

    def secret(self, purpose: str) -> bytes:
        """32 bytes by HKDF (RFC 5869) from the cluster's secret."""
        if self._keys.secret is None:
            raise Refused("the cluster was made before clusters had secrets: make it anew")
        return derived(self._keys.secret, purpose, 32)

    def signing_key(self, purpose: str) -> bytes:
        return signing_key(self.secret(f"signing {purpose}"))

    def inner(self, purpose: str) -> ClusterAuthority:
        """A CA whose key follows from the cluster's secret; each time the very same."""
        return authority_from(purpose, self.secret(f"ca {purpose}"))

    def sign(self, csr: bytes) -> bytes:
        """A client certificate, for a year, for a tenant's request (PEM).

        Raises Invalid (field `csr`) for what `moorage.trust.csr` does not let pass.
        """
        request = requests.read(csr)
        return self._issue(
            request.subject, request.key, [ExtendedKeyUsageOID.CLIENT_AUTH], TENANT_LIFE
        )

    def sign_as(self, csr: bytes, name: str, group: str) -> bytes:
        """As `sign`, for an engine that goes by names: they are ours, and not the request's."""
        request = requests.read(csr)
        requests.refuse_system(request)
        subject = requests.named(name, group)
        return self._issue(subject, request.key, [ExtendedKeyUsageOID.CLIENT_AUTH], TENANT_LIFE)

    @cached_property
    def _chain(self) -> bytes:
        """The issuer's certificate by the current CA's hand, where the issuer is the coming one."""
        if self._issuer is self._keys.current:
            return b""
        current = x509.load_pem_x509_certificate(self._keys.current.certificate)
        coming = x509.load_pem_x509_certificate(self._issuer.certificate)
        key = coming.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise TypeError(f"a cluster's CA key is ECDSA, not {type(key).__name__}")
        return _ca_certificate(
            coming.subject,
            key,
            current.subject,
            _private(self._keys.current.key),
            path_length=0,
            until=current.not_valid_after_utc,
        )

    def _issue(
        self,
        subject: x509.Name,
        key: requests.ClientKey,
        purposes: Sequence[ObjectIdentifier],
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
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(self._identifier, critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    @cached_property
    def _certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self._issuer.certificate)

    @cached_property
    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        own = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)

    @cached_property
    def _key(self) -> ec.EllipticCurvePrivateKey:
        return _private(self._issuer.key)


def authority_from(name: str, secret: bytes) -> ClusterAuthority:
    """A CA of that name whose key follows from the secret; each time the very same."""
    certificate, key = inner_ca(name, secret)
    return ClusterAuthority(CaKeys(KeyPair(certificate, key)))


def subject_of(certificate: bytes) -> str:
    """Whose a PEM certificate is, as RFC 4514 writes it: `CN=admin,O=system:masters`."""
    return x509.load_pem_x509_certificate(certificate).subject.rfc4514_string()


def _ca_certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    *,
    path_length: int,
    until: datetime.datetime | None = None,
) -> bytes:
    now = _now()
    by = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(until or now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(by, critical=False)
        .sign(signer, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"a cluster's CA key is ECDSA, not {type(key).__name__}")
    return key


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _common_name(name: str, most: int, suffix: str = "") -> x509.NameAttribute[str]:
    short = name.encode()[:most].decode(errors="ignore")
    return x509.NameAttribute(NameOID.COMMON_NAME, short + suffix)


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
