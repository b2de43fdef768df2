"""Templates, clusters and certificates as clients use them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from moorage.api.links import base_url, client_address
from moorage.api.schemas.cluster import ClusterCreate
from moorage.api.schemas.template import TemplateCreate
from tests.unit.api.conftest import ADMIN, Api, reasons

MAGNUMCLIENT_TEMPLATE: dict[str, Any] = {
    "name": "k", "coe": "fake", "image_id": "host", "external_network_id": "public",
    "keypair_id": None, "fixed_network": None, "fixed_subnet": None, "network_driver": None,
    "volume_driver": None, "driver": None, "dns_nameserver": "8.8.8.8", "flavor_id": "tiny",
    "master_flavor_id": None, "docker_volume_size": None, "docker_storage_driver": "overlay2",
    "http_proxy": None, "https_proxy": None, "no_proxy": None, "labels": {}, "tls_disabled": False,
    "public": False, "registry_enabled": False, "insecure_registry": None, "server_type": "vm",
    "master_lb_enabled": False, "hidden": False, "tags": "a,b", "floating_ip_enabled": True,
}  # fmt: skip
"""What `openstack coe cluster template create` of python-magnumclient 5.0 sends."""

MAGNUM_SHOWS = {
    "uuid", "name", "coe", "image_id", "flavor_id", "master_flavor_id", "dns_nameserver",
    "keypair_id", "external_network_id", "fixed_network", "fixed_subnet", "network_driver",
    "apiserver_port", "docker_volume_size", "docker_storage_driver", "cluster_distro", "links",
    "http_proxy", "https_proxy", "no_proxy", "volume_driver", "registry_enabled",
    "insecure_registry", "labels", "tls_disabled", "public", "hidden", "server_type",
    "master_lb_enabled", "floating_ip_enabled", "project_id", "user_id", "tags", "driver",
    "created_at", "updated_at",
}  # fmt: skip
SUMMARY = {
    "uuid", "name", "cluster_template_id", "keypair", "node_count", "master_count",
    "docker_volume_size", "labels", "master_flavor_id", "flavor_id", "create_timeout",
    "cluster_id", "status", "health_status",
}  # fmt: skip
"""The 14 fields of a list."""
WHOLE = SUMMARY | {
    "labels_overridden", "labels_added", "labels_skipped", "merge_labels", "status_reason",
    "health_status_reason", "discovery_url", "api_address", "coe_version", "container_version",
    "project_id", "user_id", "node_addresses", "master_addresses", "faults", "fixed_network",
    "fixed_subnet", "floating_ip_enabled", "master_lb_enabled", "created_at", "updated_at",
}  # fmt: skip


async def test_a_template_s_life(api: Api) -> None:
    made = await api.ask("POST", "/v1/clustertemplates", MAGNUMCLIENT_TEMPLATE)
    assert made.status_code == 201, made.text
    body = made.json()
    assert body.keys() == MAGNUM_SHOWS
    assert made.headers["location"] == f"http://cloud:9511/v1/clustertemplates/{body['uuid']}"
    assert (body["tags"], body["dns_nameserver"], body["docker_volume_size"]) == (
        "a,b",
        "8.8.8.8",
        None,
    )
    for ident in (body["uuid"], "k"):
        shown = await api.ask("GET", f"/v1/clustertemplates/{ident}")
        assert (shown.status_code, shown.json()) == (200, body)
    patch = [{"op": "add", "path": "/labels/x", "value": "y"}]
    changed = await api.ask("PATCH", "/v1/clustertemplates/k", patch)
    assert (changed.status_code, changed.json()["labels"]) == (200, {"x": "y"})
    gone = await api.ask("DELETE", "/v1/clustertemplates/k")
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await api.ask("GET", "/v1/clustertemplates/k")).status_code == 404


async def test_a_cluster_s_life(api: Api) -> None:
    template = await api.template(labels={"a": "1", "b": "2"})
    body = {
        "cluster_template_id": "small", "name": "one", "node_count": 2, "master_count": 1,
        "create_timeout": 30, "discovery_url": None, "keypair": None, "labels": {"b": "3", "c": 4},
        "merge_labels": True,
    }  # fmt: skip
    made = await api.ask("POST", "/v1/clusters", body)
    assert made.status_code == 202, made.text
    assert made.json().keys() == {"uuid"}
    uuid = made.json()["uuid"]
    shown = (await api.ask("GET", "/v1/clusters/one")).json()
    assert shown.keys() == WHOLE | {"links"}
    assert shown["uuid"] == uuid
    assert shown["cluster_template_id"] == template["uuid"]
    assert shown["status"] == "CREATE_IN_PROGRESS"
    assert shown["labels"] == {"a": "1", "b": "3", "c": "4"}
    assert shown["labels_overridden"] == {"b": "2"}
    assert shown["labels_added"] == {"c": "4"}
    (listed,) = (await api.ask("GET", "/v1/clusters")).json()["clusters"]
    assert listed.keys() == SUMMARY | {"links"}
    (detailed,) = (await api.ask("GET", "/v1/clusters/detail")).json()["clusters"]
    assert detailed == shown
    patch = [{"op": "replace", "path": "/node_count", "value": 3}]
    changed = await api.ask("PATCH", f"/v1/clusters/{uuid}/?rollback=True", patch)
    assert (changed.status_code, changed.json()) == (202, {"uuid": uuid})
    assert (await api.ask("GET", "/v1/clusters/one")).json()["node_count"] == 3
    twice = await api.ask("POST", "/v1/clusters", body)
    assert (twice.status_code, "one" in twice.text) == (409, True)
    for _ in range(2):
        gone = await api.ask("DELETE", "/v1/clusters/one")
        assert (gone.status_code, gone.content) == (204, b"")
    assert (await api.ask("GET", "/v1/clusters/one")).json()["status"] == "DELETE_IN_PROGRESS"


async def test_a_plain_object_is_a_patch_too(api: Api) -> None:
    """As openstacksdk's update_cluster sends it."""
    await api.cluster(name="one")
    changed = await api.ask("PATCH", "/v1/clusters/one", {"node_count": 2})
    assert changed.status_code == 202, changed.text
    assert (await api.ask("GET", "/v1/clusters/one")).json()["node_count"] == 2


@pytest.mark.parametrize("schema", [TemplateCreate, ClusterCreate])
async def test_every_field_may_be_null_but_what_is_needed(
    api: Api, schema: type[TemplateCreate | ClusterCreate]
) -> None:
    body: dict[str, Any] = dict.fromkeys(schema.model_fields)
    if schema is TemplateCreate:
        answer = await api.ask("POST", "/v1/clustertemplates", {**body, "coe": "fake"})
        assert answer.status_code == 201, answer.text
    else:
        template = await api.template()
        body["cluster_template_id"] = template["uuid"]
        answer = await api.ask("POST", "/v1/clusters", body)
        assert answer.status_code == 202, answer.text


async def test_a_template_in_use(api: Api) -> None:
    uuid = await api.cluster(name="one")
    template = (await api.ask("GET", f"/v1/clusters/{uuid}")).json()["cluster_template_id"]
    answer = await api.ask("DELETE", f"/v1/clustertemplates/{template}")
    assert answer.status_code == 409


async def test_only_an_admin_publishes(api: Api) -> None:
    body = {"coe": "fake", "name": "everyones", "public": True}
    assert (await api.ask("POST", "/v1/clustertemplates", body)).status_code == 403
    assert (await api.ask("POST", "/v1/clustertemplates", body, token=ADMIN)).status_code == 201
    assert (await api.ask("GET", "/v1/clustertemplates/everyones")).status_code == 200


async def test_certificates(api: Api) -> None:
    uuid = await api.cluster(name="one")
    ca = (await api.ask("GET", "/v1/certificates/one")).json()
    assert ca["cluster_uuid"] == uuid
    authority = x509.load_pem_x509_certificate(ca["pem"].encode())
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")]))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )
    body = {"cluster_uuid": uuid, "csr": csr}
    answer = await api.ask("POST", "/v1/certificates", body)
    assert answer.status_code == 201, answer.text
    signed = answer.json()
    assert (signed["csr"], signed["cluster_uuid"]) == (csr, uuid)
    x509.load_pem_x509_certificate(signed["pem"].encode()).verify_directly_issued_by(authority)


async def test_pages(api: Api) -> None:
    uuids = [await api.cluster(name=f"c{number}") for number in range(3)]
    seen, url, pages = [], "/v1/clusters?limit=2&sort_dir=desc", 0
    while url:
        body = (await api.ask("GET", url)).json()
        seen += [cluster["uuid"] for cluster in body["clusters"]]
        url, pages = body["next"], pages + 1
        assert url is None or url.startswith("http://cloud:9511/v1/clusters?limit=2&")
    assert (seen, pages) == (uuids[::-1], 2)
    detail = (await api.ask("GET", "/v1/clusters/detail?limit=1")).json()
    assert detail["next"].startswith("http://cloud:9511/v1/clusters/detail?")
    assert (await api.ask("GET", "/v1/clusters?limit=99999")).json()["next"] is None


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("limit=0", "limit must be at least 1, not 0."),
        ("limit=-5", "limit must be at least 1, not -5."),
        ("limit=x", "limit must be a whole number, not 'x'."),
        ("limit=", "limit must be a whole number, not ''."),
        ("limit=99999999999999999999", "limit must be a whole number"),
        ("sort_dir=up", "sort_dir must be 'asc' or 'desc', not 'up'."),
        ("sort_key=ca_key", "ca_key"),
        ("sort_key=id;drop", "id;drop"),
        ("marker=nobody", "nobody"),
        ("all_projects=perhaps", "all_projects must be true or false, not 'perhaps'."),
        ("limti=5", "There is no query parameter 'limti'."),
    ],
)
@pytest.mark.parametrize("path", ["/v1/clusters", "/v1/clusters/detail", "/v1/clustertemplates"])
async def test_bad_pages(api: Api, path: str, query: str, reason: str) -> None:
    answer = await api.ask("GET", f"{path}?{query}")
    assert answer.status_code == 400, answer.text
    assert reason in reasons(answer)[0]


async def test_magnumclient_s_slash_before_the_query(api: Api) -> None:
    await api.cluster(name="one")
    answer = await api.ask("GET", "/v1/clusters/?limit=5")
    assert answer.status_code == 200
    assert len(answer.json()["clusters"]) == 1


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("moorage.example:8443", "http://moorage.example:8443"),
        ("[2001:db8::1]:9511", "http://[2001:db8::1]:9511"),
        ('evil"><script>', "http://cloud:9511"),
        ("a b", "http://cloud:9511"),
        ("x@evil/", "http://cloud:9511"),
    ],
)
async def test_links_lead_back_the_way_the_request_came(api: Api, host: str, base: str) -> None:
    headers = {"Host": host, "X-Forwarded-Host": "elsewhere", "X-Forwarded-Proto": "https"}
    body = (await api.ask("GET", "/", headers=headers)).json()
    assert body["versions"][0]["links"][0]["href"] == f"{base}/v1/"


async def test_error_format(api: Api) -> None:
    answer = await api.ask("GET", "/v1/clusters/nowhere")
    assert answer.status_code == 404
    (error,) = answer.json()["errors"]
    assert error.keys() == {"request_id", "code", "status", "title", "detail", "links"}
    assert error["request_id"] == answer.headers["x-openstack-request-id"]
    assert error["status"] == 404
    assert error["links"] == []
    assert "nowhere" in error["title"]


async def test_nothing_there(api: Api) -> None:
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("GET", "/docs", 404),
        ("GET", "/v1/clusters/a/b", 404),
        ("PUT", "/v1/clusters/a", 405),
        ("OPTIONS", "/v1/clusters", 405),
        ("POST", "/v1/clusters/x/actions/nothing", 404),
    ):
        answer: httpx.Response = await api.ask(method, path)
        assert answer.status_code == status
        assert path in reasons(answer)[0]


@pytest.mark.parametrize(
    ("forwarded", "base"),
    [
        ({}, "http://cloud:9511"),
        ({"x-forwarded-host": "api.example", "x-forwarded-proto": "https"}, "https://api.example"),
        ({"x-forwarded-host": "api.example, inner"}, "http://api.example"),
        ({"x-forwarded-proto": "javascript"}, "http://cloud:9511"),
        ({"x-forwarded-prefix": "/container-infra/"}, "http://cloud:9511/container-infra"),
        ({"x-forwarded-prefix": "/a/b"}, "http://cloud:9511/a/b"),
        ({"x-forwarded-prefix": "//evil.example"}, "http://cloud:9511"),
        ({"x-forwarded-prefix": "evil"}, "http://cloud:9511"),
    ],
)
def test_links_behind_a_trusted_proxy(forwarded: dict[str, str], base: str) -> None:
    headers = {name.encode(): value.encode() for name, value in forwarded.items()}
    headers[b"host"] = b"cloud:9511"
    scope = {"scheme": "http", "server": ("10.0.0.1", 9511)}
    assert base_url(scope, headers, trust_proxy=True) == base
    assert base_url(scope, headers, trust_proxy=False) == "http://cloud:9511"


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        (None, "10.0.0.9"),
        ("192.0.2.7", "192.0.2.7"),
        ("6.6.6.6, 192.0.2.7", "192.0.2.7"),
        ("192.0.2.7, [2001:db8::1]", "2001:db8::1"),
        ("192.0.2.7, someone", "10.0.0.9"),
        ("", "10.0.0.9"),
    ],
)
def test_the_client_behind_a_trusted_proxy(forwarded: str | None, address: str) -> None:
    """The last address is the proxy's own word; those before it anybody could have written."""
    headers = {} if forwarded is None else {b"x-forwarded-for": forwarded.encode()}
    scope = {"client": ("10.0.0.9", 50000)}
    assert client_address(scope, headers, trust_proxy=True) == address
    assert client_address(scope, headers, trust_proxy=False) == "10.0.0.9"
