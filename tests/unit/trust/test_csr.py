"""What must not be smuggled through a certificate request."""

from __future__ import annotations

import base64
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from moorage.model.errors import Invalid
from moorage.trust import csr
from tests.unit.trust.requests import ADMIN, ec_key, request, rsa_key

GOOD = request()


def refusal(pem: bytes) -> str:
    with pytest.raises(Invalid) as caught:
        csr.read(pem)
    assert caught.value.field == "csr"
    return caught.value.reason


def key_usage(**on: bool) -> x509.KeyUsage:
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment "
        "key_agreement key_cert_sign crl_sign encipher_only decipher_only"
    ).split()
    return x509.KeyUsage(**{name: on.get(name, False) for name in names})


@pytest.mark.parametrize(
    ("extension", "why"),
    [
        (x509.BasicConstraints(ca=True, path_length=None), "CA:TRUE"),
        (x509.BasicConstraints(ca=True, path_length=0), "CA:TRUE"),
        (key_usage(key_cert_sign=True), "sign certificates"),
        (key_usage(crl_sign=True), "sign certificates"),
        (x509.ExtendedKeyUsage([Usage.SERVER_AUTH]), "clientAuth"),
        (x509.ExtendedKeyUsage([Usage.CLIENT_AUTH, Usage.SERVER_AUTH]), "clientAuth"),
        (x509.ExtendedKeyUsage([Usage.ANY_EXTENDED_KEY_USAGE]), "clientAuth"),
        (x509.SubjectAlternativeName([x509.DNSName("master-0")]), "alternative names"),
        (
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("10.0.0.2"))]),
            "alternative names",
        ),
        (x509.NameConstraints([x509.DNSName("x")], None), "nameConstraints"),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), "1.2.3.4"),
        (x509.PolicyConstraints(0, None), "policyConstraints"),
    ],
)
def test_asking_for_more_than_a_client_may_is_refused(
    extension: x509.ExtensionType, why: str
) -> None:
    assert why in refusal(request(None, extension))
    assert why in refusal(request(rsa_key(), extension))


@pytest.mark.parametrize(
    "extension",
    [
        x509.BasicConstraints(ca=False, path_length=None),
        key_usage(digital_signature=True, key_encipherment=True),
        x509.ExtendedKeyUsage([Usage.CLIENT_AUTH]),
        x509.SubjectKeyIdentifier.from_public_key(ec_key().public_key()),
    ],
)
def test_harmless_extensions_pass(extension: x509.ExtensionType) -> None:
    assert csr.read(request(None, extension)).key == ec_key().public_key()


@pytest.mark.parametrize(
    "key",
    [ec_key(ec.SECP384R1), ec_key(ec.SECP521R1), rsa_key(3072)],
    ids=["p384", "p521", "rsa3072"],
)
def test_strong_keys_pass(key: object) -> None:
    csr.read(request(key))


def test_ed25519_passes() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")])
    signed = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, None)
    assert csr.read(signed.public_bytes(Encoding.PEM)).key == key.public_key()


def test_weak_keys_and_other_curves_are_refused() -> None:
    assert "1024 bits" in refusal(request(rsa_key(1024)))
    assert "secp256k1" in refusal(request(ec_key(ec.SECP256K1)))
    assert "secp224r1" in refusal(request(ec_key(ec.SECP224R1)))
    assert "RSA, ECDSA" in refusal(request(dsa.generate_private_key(1024)))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    signed = builder.sign(ed448.Ed448PrivateKey.generate(), None)
    assert "RSA, ECDSA" in refusal(signed.public_bytes(Encoding.PEM))


def test_a_weak_hash_is_refused() -> None:
    assert "SHA-256" in refusal(request(algorithm=hashes.SHA224()))


def test_a_signature_that_is_not_the_keys_is_refused() -> None:
    lines = GOOD.decode().splitlines()
    der = bytearray(base64.b64decode("".join(lines[1:-1])))
    where = der.find(b"system:masters")
    der[where : where + 14] = b"system:mistake"
    body = base64.encodebytes(bytes(der)).decode()
    assert "signature" in refusal(f"{lines[0]}\n{body}{lines[-1]}\n".encode())


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        (b"", "one PEM block"),
        (b"hello", "one PEM block"),
        (GOOD + GOOD, "one PEM block"),
        (GOOD.replace(b"CERTIFICATE REQUEST", b"CERTIFICATE"), "PKCS #10"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "PKCS"),
        (GOOD + b"x" * csr.LARGEST, "65536 are allowed"),
    ],
)
def test_what_is_no_request_is_refused(pem: bytes, why: str) -> None:
    assert why in refusal(pem)


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        ((), "no common name"),
        (((NameOID.ORGANIZATION_NAME, "system:masters"),), "no common name"),
        ((*ADMIN, (NameOID.EMAIL_ADDRESS, "a@b")), "1.2.840.113549.1.9.1"),
        ((*ADMIN, *[(NameOID.ORGANIZATION_NAME, f"o{n}") for n in range(20)]), "22 names"),
        (((NameOID.COMMON_NAME, "a\nb"),), "printable"),
        ((*ADMIN, (NameOID.ORGANIZATION_NAME, "o" * 65)), "64 bytes"),
    ],
)
def test_odd_subjects_are_refused(
    subject: tuple[tuple[x509.ObjectIdentifier, str], ...], why: str
) -> None:
    assert why in refusal(request(subject=subject))


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=4))
def test_a_damaged_request_is_refused_and_never_a_crash(where: int, noise: bytes) -> None:
    lines = GOOD.decode().splitlines()
    der = bytearray(base64.b64decode("".join(lines[1:-1])))
    where %= len(der)
    der[where : where + len(noise)] = noise
    body = base64.encodebytes(bytes(der)).decode()
    try:
        csr.read(f"{lines[0]}\n{body}{lines[-1]}\n".encode())
    except Invalid as refused:
        assert refused.field == "csr"


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_and_never_a_crash(noise: bytes) -> None:
    refusal(noise)
    refusal(b"-----BEGIN CERTIFICATE REQUEST-----\n" + noise)
