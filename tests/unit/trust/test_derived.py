"""What follows from a cluster's secret, and the clients that engines know by name."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from moorage.model.cluster import Rotation
from moorage.model.errors import Invalid, Refused
from moorage.model.ports import CaKeys
from moorage.trust.authority import ClusterAuthority, new_ca, subject_of
from moorage.trust.derived import new_secret
from tests.unit.trust.requests import request

SECRET = b"s" * 32
CA = ClusterAuthority(CaKeys(new_ca("one"), secret=SECRET))


def named(name: str, group: str) -> tuple[tuple[x509.ObjectIdentifier, str], ...]:
    return ((NameOID.COMMON_NAME, name), (NameOID.ORGANIZATION_NAME, group))


def test_what_follows_from_a_secret_outlives_the_ca() -> None:
    rotated = CaKeys(new_ca("one"), new_ca("one"), Rotation.SERVE, SECRET)
    other = ClusterAuthority(rotated)
    assert other.secret("encryption") == CA.secret("encryption")
    assert other.signing_key("tokens") == CA.signing_key("tokens")
    assert other.inner("etcd").certificate == CA.inner("etcd").certificate
    assert other.inner("etcd").revision == CA.inner("etcd").revision


def test_each_purpose_and_each_cluster_has_its_own() -> None:
    other = ClusterAuthority(CaKeys(new_ca("two"), secret=new_secret()))
    found = {each.secret(what) for each in (CA, other) for what in ("a", "b")}
    assert len(found) == 4
    assert {len(each) for each in found} == {32}
    assert CA.signing_key("a") != CA.signing_key("b")
    load_pem_private_key(CA.signing_key("a"), password=None)


def test_without_a_secret_nothing_follows() -> None:
    old = ClusterAuthority(CaKeys(new_ca("one")))
    for what in (old.secret, old.inner, old.signing_key):
        with pytest.raises(Refused, match="before clusters had secrets"):
            what("any")


def test_an_inner_ca_signs_and_knows_its_own() -> None:
    inner = CA.inner("etcd")
    pair = inner.peer("master-0", ["10.0.0.2"])
    ca = x509.load_pem_x509_certificate(inner.certificate)
    leaf = x509.load_pem_x509_certificate(pair.certificate)
    leaf.verify_directly_issued_by(ca)
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    with pytest.raises((InvalidSignature, ValueError)):
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(CA.certificate))


def test_clients_of_groups() -> None:
    pair = CA.client("system:node:web-worker-0", ["system:nodes"], lasting=True)
    assert subject_of(pair.certificate) == "O=system:nodes,CN=system:node:web-worker-0"
    short = x509.load_pem_x509_certificate(CA.client("x").certificate)
    long = x509.load_pem_x509_certificate(pair.certificate)
    assert long.not_valid_after_utc > short.not_valid_after_utc


def test_a_request_gets_our_names_and_not_its_own() -> None:
    signed = CA.sign_as(request(), "user-1", "moorage:readers")
    assert subject_of(signed) == "O=moorage:readers,CN=user-1"
    for name, group in (("system:node:x", "system:nodes"), ("admin", "system:nodes")):
        with pytest.raises(Invalid, match="a name of Kubernetes' own programs"):
            CA.sign_as(request(subject=named(name, group)), "user-1", "moorage:readers")
