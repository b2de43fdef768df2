from __future__ import annotations

import datetime
import ipaddress

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from moorage.model.ports import Authority, KeyPair
from moorage.trust.authority import ClusterAuthority
from tests.unit.trust.requests import request, rsa_key

CA = ClusterAuthority.create("one")
DAY = datetime.timedelta(days=1)


def loaded(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def life(certificate: x509.Certificate) -> datetime.timedelta:
    return certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)


def policy(ca: ClusterAuthority) -> PolicyBuilder:
    return PolicyBuilder().store(Store([loaded(ca.certificate)]))


def test_it_is_the_port() -> None:
    port: Authority = CA
    assert port.certificate == CA.pair.certificate


def test_the_ca_signs_leaves_and_nothing_below() -> None:
    certificate = loaded(CA.certificate)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)
    assert life(certificate) > 3649 * DAY


def test_a_server_certificate_serves_its_names_and_is_no_client() -> None:
    pair = CA.server("master-0", ["10.0.0.2", "fd00::2"])
    certificate = loaded(pair.certificate)
    for subject in (
        x509.DNSName("master-0"),
        x509.IPAddress(ipaddress.ip_address("10.0.0.2")),
        x509.IPAddress(ipaddress.ip_address("fd00::2")),
    ):
        policy(CA).build_server_verifier(subject).verify(certificate, [])
    with pytest.raises(VerificationError):
        policy(CA).build_server_verifier(x509.DNSName("other")).verify(certificate, [])
    with pytest.raises(VerificationError):
        policy(CA).build_client_verifier().verify(certificate, [])
    assert usages(certificate) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert life(certificate) > 1824 * DAY
    key = load_pem_private_key(pair.key, None)
    assert key.public_key() == certificate.public_key()


def test_a_client_certificate_is_short_lived_and_no_server() -> None:
    certificate = loaded(CA.client("conductor").certificate)
    assert usages(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert life(certificate) <= DAY
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


@pytest.mark.parametrize(("bits", "algorithm"), [(2048, hashes.SHA256()), (4096, hashes.SHA512())])
def test_what_magnumclient_and_terraform_ask_for_is_signed(
    bits: int, algorithm: hashes.HashAlgorithm
) -> None:
    certificate = loaded(CA.sign(request(rsa_key(bits), algorithm=algorithm)))
    certificate.verify_directly_issued_by(loaded(CA.certificate))
    assert certificate.public_key() == rsa_key(bits).public_key()
    assert usages(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.subject.rfc4514_string() == "O=system:masters,CN=admin"
    assert 364 * DAY < life(certificate) <= 365 * DAY
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not constraints.ca


def test_another_clusters_certificate_does_not_open_this_one() -> None:
    other = ClusterAuthority.create("one")
    certificate = loaded(other.client("conductor").certificate)
    with pytest.raises(InvalidSignature):
        certificate.verify_directly_issued_by(loaded(CA.certificate))


def test_clocks_may_differ_by_minutes() -> None:
    for pem in (CA.certificate, CA.client("c").certificate, CA.server("s", []).certificate):
        past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=4)
        assert loaded(pem).not_valid_before_utc < past


def test_no_leaf_outlives_its_ca(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moorage.trust.authority.CA_LIFE", DAY)
    brief = ClusterAuthority.create("brief")
    end = loaded(brief.certificate).not_valid_after_utc
    assert loaded(brief.server("s", []).certificate).not_valid_after_utc == end
    assert loaded(brief.sign(request())).not_valid_after_utc == end


@pytest.mark.parametrize("name", ["x" * 242, "é" * 60])
def test_long_names_are_cut_to_what_x509_allows(name: str) -> None:
    authority = ClusterAuthority.create(name)
    (common,) = loaded(authority.certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.startswith(str(common.value))
    assert 60 <= len(str(common.value).encode()) <= 64
    assert loaded(authority.sign(request())).issuer == loaded(authority.certificate).subject


def test_an_authority_comes_back_from_its_pair() -> None:
    again = ClusterAuthority(KeyPair(CA.pair.certificate, CA.pair.key))
    loaded(again.client("c").certificate).verify_directly_issued_by(loaded(CA.certificate))
    assert b"PRIVATE" not in repr(again.pair).encode()
