"""The CA of a cluster, and its exchange as clients and servers of every kind see it."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import itertools
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from moorage.model.cluster import Rotation
from moorage.model.ports import Authority, CaKeys, KeyPair
from moorage.trust.authority import ClusterAuthority, new_ca
from tests.unit.trust.requests import request, rsa_key

OLD, NEW = new_ca("one"), new_ca("one")
CA = BEFORE = ClusterAuthority(CaKeys(OLD))
TRUST = ClusterAuthority(CaKeys(OLD, NEW, Rotation.TRUST))
SERVE = ClusterAuthority(CaKeys(OLD, NEW, Rotation.SERVE))
AFTER = ClusterAuthority(CaKeys(NEW))
OTHER = ClusterAuthority(CaKeys(new_ca("one")))
PHASES = {"before": BEFORE, "trust": TRUST, "serve": SERVE, "after": AFTER}
BOTH = OLD.certificate + NEW.certificate
DAY = datetime.timedelta(days=1)


def loaded(pem: bytes) -> x509.Certificate:
    """The first certificate of a PEM."""
    return x509.load_pem_x509_certificates(pem)[0]


def usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def life(certificate: x509.Certificate) -> datetime.timedelta:
    return certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)


def constraints(certificate: x509.Certificate) -> x509.BasicConstraints:
    found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert found.critical
    return found.value


def policy(trusted: bytes) -> PolicyBuilder:
    return PolicyBuilder().store(Store(x509.load_pem_x509_certificates(trusted)))


def unit(certificate: x509.Certificate) -> str:
    (found,) = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    return str(found.value)


# One CA


def test_it_is_the_port() -> None:
    port: Authority = CA
    assert port.certificate == OLD.certificate


def test_the_ca_signs_leaves_and_one_other_ca() -> None:
    certificate = loaded(CA.certificate)
    assert constraints(certificate) == x509.BasicConstraints(ca=True, path_length=1)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)
    assert life(certificate) > 3649 * DAY


def test_two_cas_of_one_cluster_have_two_names() -> None:
    assert loaded(OLD.certificate).subject != loaded(NEW.certificate).subject


def test_a_server_certificate_serves_its_names_and_is_no_client() -> None:
    pair = CA.server("master-0", ["10.0.0.2", "fd00::2"])
    certificate = loaded(pair.certificate)
    for subject in (
        x509.DNSName("master-0"),
        x509.IPAddress(ipaddress.ip_address("10.0.0.2")),
        x509.IPAddress(ipaddress.ip_address("fd00::2")),
    ):
        policy(CA.certificate).build_server_verifier(subject).verify(certificate, [])
    with pytest.raises(VerificationError):
        policy(CA.certificate).build_server_verifier(x509.DNSName("other")).verify(certificate, [])
    with pytest.raises(VerificationError):
        policy(CA.certificate).build_client_verifier().verify(certificate, [])
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
    assert not constraints(certificate).ca


def test_clocks_may_differ_by_minutes() -> None:
    chain = x509.load_pem_x509_certificates(SERVE.server("s", []).certificate)
    for certificate in (loaded(CA.certificate), loaded(CA.client("c").certificate), *chain):
        past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=4)
        assert certificate.not_valid_before_utc < past


def test_no_leaf_outlives_its_ca(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moorage.trust.authority.CA_LIFE", DAY)
    keys = new_ca("brief")
    brief = ClusterAuthority(CaKeys(keys))
    end = loaded(brief.certificate).not_valid_after_utc
    assert loaded(brief.server("s", []).certificate).not_valid_after_utc == end
    assert loaded(brief.sign(request())).not_valid_after_utc == end
    serve = ClusterAuthority(CaKeys(keys, NEW, Rotation.SERVE))
    _, cross = x509.load_pem_x509_certificates(serve.server("s", []).certificate)
    assert cross.not_valid_after_utc == end


@pytest.mark.parametrize("name", ["x" * 242, "é" * 60])
def test_long_names_are_cut_to_what_x509_allows(name: str) -> None:
    authority = ClusterAuthority(CaKeys(new_ca(name)))
    (common,) = loaded(authority.certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    start, _, suffix = str(common.value).rpartition(" ")
    assert name.startswith(start)
    assert len(suffix) == 8
    assert 60 <= len(str(common.value).encode()) <= 64
    assert loaded(authority.sign(request())).issuer == loaded(authority.certificate).subject


def test_an_authority_comes_back_from_its_keys() -> None:
    again = ClusterAuthority(CaKeys(KeyPair(OLD.certificate, OLD.key)))
    assert again.revision == CA.revision
    loaded(again.client("c").certificate).verify_directly_issued_by(loaded(CA.certificate))
    assert "PRIVATE" not in repr(CaKeys(OLD, NEW, Rotation.SERVE)) + repr(again)


# The exchange


def test_each_phase_trusts_and_signs_as_it_should() -> None:
    trusted = {name: phase.certificate for name, phase in PHASES.items()}
    assert trusted == {
        "before": OLD.certificate,
        "trust": BOTH,
        "serve": BOTH,
        "after": NEW.certificate,
    }
    old, new = (loaded(pair.certificate).subject for pair in (OLD, NEW))
    for name, issuer in {"before": old, "trust": old, "serve": new, "after": new}.items():
        phase = PHASES[name]
        signed = (phase.sign(request()), phase.client("c").certificate)
        leaves = (*signed, phase.server("s", []).certificate)
        assert {loaded(pem).issuer for pem in leaves} == {issuer}


def test_a_coming_ca_has_no_say_before_its_time() -> None:
    ready = ClusterAuthority(CaKeys(OLD, NEW))
    assert (ready.certificate, ready.revision) == (BEFORE.certificate, BEFORE.revision)


def test_every_phase_has_its_revision_and_every_server_certificate_shows_it() -> None:
    assert len({phase.revision for phase in PHASES.values()}) == len(PHASES)
    for phase in PHASES.values():
        assert len(phase.revision) == 16
        assert int(phase.revision, 16) >= 0
        assert unit(loaded(phase.server("s", []).certificate)) == phase.revision
    again = ClusterAuthority(CaKeys(OLD, NEW, Rotation.SERVE))
    assert again.revision == SERVE.revision


def test_only_serve_shows_the_coming_ca_as_the_current_one_signed_it() -> None:
    lengths = {
        name: len(x509.load_pem_x509_certificates(phase.server("s", []).certificate))
        for name, phase in PHASES.items()
    }
    assert lengths == {"before": 1, "trust": 1, "serve": 2, "after": 1}
    leaf, cross = x509.load_pem_x509_certificates(SERVE.server("s", []).certificate)
    old, new = loaded(OLD.certificate), loaded(NEW.certificate)
    leaf.verify_directly_issued_by(cross)
    cross.verify_directly_issued_by(old)
    assert (cross.subject, cross.public_key()) == (new.subject, new.public_key())
    assert cross.serial_number != new.serial_number
    assert constraints(cross) == x509.BasicConstraints(ca=True, path_length=0)
    assert cross.not_valid_after_utc == old.not_valid_after_utc


def test_no_path_is_longer_than_go_lets_it_be() -> None:
    """Go counts the CAs between a leaf and each CA above (crypto/x509, `isValid`).

    More than that one's path length, and the docker client sees a bad certificate.
    """
    old, new = loaded(OLD.certificate), loaded(NEW.certificate)
    leaf, cross = x509.load_pem_x509_certificates(SERVE.server("s", []).certificate)
    for path in ([leaf, cross, old], [leaf, new]):
        for between, above in enumerate(path[1:]):
            length = constraints(above).path_length
            assert length is not None
            assert between <= length


VERIFIES = {
    # who trusts:   old CA, both, new CA; and is shown the phase's server certificate
    "before": (True, True, False),
    "trust": (True, True, False),
    "serve": (True, True, True),
    "after": (False, True, True),
}
TRUSTING = {"old": OLD.certificate, "both": BOTH, "new": NEW.certificate}
CASES = [
    pytest.param(PHASES[phase], TRUSTING[who], good, id=f"{phase}-{who}")
    for phase, row in VERIFIES.items()
    for who, good in zip(TRUSTING, row, strict=True)
]


@pytest.mark.parametrize(("phase", "trusted", "good"), CASES)
def test_who_verifies_a_server(phase: ClusterAuthority, trusted: bytes, good: bool) -> None:
    leaf, *between = x509.load_pem_x509_certificates(phase.server("s", []).certificate)
    verifier = policy(trusted).build_server_verifier(x509.DNSName("s"))
    with contextlib.nullcontext() if good else pytest.raises(VerificationError):
        verifier.verify(leaf, between)


# Handshakes, as OpenSSL does them


def context(purpose: int, trusted: bytes, pair: KeyPair | None, directory: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(purpose)
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=trusted.decode())
    if pair is not None:
        file = directory / "pair.pem"
        file.write_bytes(pair.certificate + pair.key)
        made.load_cert_chain(file)
    return made


def handshake(node: ClusterAuthority, trusted: bytes, pair: KeyPair | None, directory: Path) -> str:
    """What `node`'s server certificate shows to such a client, once both are content."""
    server = context(ssl.PROTOCOL_TLS_SERVER, node.certificate, node.server("s", []), directory)
    client = context(ssl.PROTOCOL_TLS_CLIENT, trusted, pair, directory)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(back, there, server_hostname="s")
    theirs = server.wrap_bio(there, back, server_side=True)
    for side in (ours, theirs, ours, theirs):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    theirs.write(b"let in")
    assert ours.read() == b"let in"
    shown = ours.getpeercert(binary_form=True)
    assert shown is not None
    return unit(x509.load_der_x509_certificate(shown))


@pytest.mark.parametrize(("phase", "trusted", "good"), CASES)
def test_a_handshake_with_either_certificate(
    phase: ClusterAuthority, trusted: bytes, good: bool, tmp_path: Path
) -> None:
    """An old client's is good until the last phase, a new one's from the first on."""
    for pair, opens in (
        (BEFORE.client("old"), phase is not AFTER),
        (SERVE.client("new"), phase is not BEFORE),
    ):
        if good and opens:
            assert handshake(phase, trusted, pair, tmp_path) == phase.revision
        else:
            with pytest.raises(ssl.SSLError):
                handshake(phase, trusted, pair, tmp_path)


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_nobody_else_is_let_in_in_any_phase(phase: ClusterAuthority, tmp_path: Path) -> None:
    for pair in (None, OTHER.client("c"), phase.server("c", []), TRUST.server("c", [])):
        with pytest.raises(ssl.SSLError):
            handshake(phase, BOTH, pair, tmp_path)


def test_neighbouring_phases_understand_each_other(tmp_path: Path) -> None:
    """While nodes pass from the one to the other, a client of either meets both."""
    for one, other in itertools.pairwise(PHASES.values()):
        for client, node in ((one, other), (other, one)):
            pair = client.client("conductor")
            assert handshake(node, client.certificate, pair, tmp_path) == node.revision
