"""Bad bodies: each is refused with its reason, and nothing is made."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.api.limits import DEEPEST, MOST_BYTES, json_value
from moorage.model.errors import Invalid
from moorage.services import options
from tests.unit.api.conftest import Api, reasons

JSON = {"Content-Type": "application/json"}
NOT_JSON = [
    b"{",
    b"nope",
    b"{'coe': 'fake'}",
    b'{"coe": "fake"} trailing',
    b'{"coe": "fake",}',
    b'{"coe": NaN}',
    b'{"coe": Infinity}',
    b"\xff\xfe{",
    b'"\xc3\x28"',
    b"9" * 5000,
]


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize("content", NOT_JSON)
async def test_not_json(api: Api, content: bytes) -> None:
    answer = await api.ask("POST", "/v1/clustertemplates", content=content, headers=JSON)
    assert answer.status_code == 400
    assert reasons(answer)[0].startswith("The body is not JSON")


@pytest.mark.parametrize("depth", [DEEPEST + 1, 1000, 100_000])
async def test_too_deep(api: Api, depth: int) -> None:
    answer = await api.ask("POST", "/v1/clustertemplates", content=nested(depth), headers=JSON)
    assert answer.status_code == 400
    assert reasons(answer) == [f"The body is nested deeper than {DEEPEST} levels."]


def test_just_deep_enough() -> None:
    json_value(nested(DEEPEST))
    json_value(json.dumps({"a": "[[[" * 100, "b": ["{"] * 100}).encode())


async def test_too_large(api: Api) -> None:
    content = json.dumps({"coe": "x" * MOST_BYTES}).encode()
    answer = await api.ask("POST", "/v1/clustertemplates", content=content, headers=JSON)
    assert answer.status_code == 413
    assert reasons(answer) == [f"A body may have {MOST_BYTES} bytes."]


async def test_too_large_in_chunks(api: Api) -> None:
    handed = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal handed
        while True:
            handed += 1
            yield b" " * 65536

    answer = await api.ask("POST", "/v1/clustertemplates", content=endless(), headers=JSON)
    assert answer.status_code == 413
    assert handed < 10, "it stopped reading"


@pytest.mark.parametrize("length", ["99999999999999999999", "-1", "x"])
async def test_a_length_that_lies(api: Api, length: str) -> None:
    answer = await api.ask(
        "POST",
        "/v1/clustertemplates",
        content=b"{}",
        headers={**JSON, "Content-Length": length},
    )
    assert answer.status_code in {400, 413}


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"],
)
async def test_content_type(api: Api, kind: str) -> None:
    answer = await api.ask(
        "POST", "/v1/clustertemplates", content=b'{"coe": "fake"}', headers={"Content-Type": kind}
    )
    assert answer.status_code == 415
    assert "application/json" in answer.text


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
async def test_content_type_spelled_otherwise(api: Api, kind: str) -> None:
    answer = await api.ask(
        "POST", "/v1/clustertemplates", content=b'{"coe": "fake"}', headers={"Content-Type": kind}
    )
    assert answer.status_code == 201


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x\udfffy"])
async def test_text_that_is_none(api: Api, text: str) -> None:
    for body in ({"cluster_template_id": text}, {text: "x"}, [{"op": "add", "path": text}]):
        content = json.dumps(body).encode()
        answer = await api.ask("POST", "/v1/clusters", content=content, headers=JSON)
        assert answer.status_code == 400
        assert "surrogate" in answer.text
    assert (await api.ask("GET", "/v1/clusters/a%00b")).status_code == 400
    assert (await api.ask("GET", "/v1/clusters?marker=a%00b")).status_code == 400


CLUSTER_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"node_count": -1}, "node_count must be from 0 to 1000, not -1."),
    ({"node_count": "many"}, "node_count must be a valid integer"),
    ({"node_count": 1.5}, "node_count must be a valid integer"),
    ({"node_count": True}, "node_count: must be a whole number, not true or false."),
    ({"node_count": 10**9}, "node_count must be from 0 to 1000"),
    ({"node_count": 10**30}, "beyond 64 bits: 1000000000000000"),
    ({"labels": {"a": -(10**30)}}, "beyond 64 bits"),
    ({"node_count": 900}, "quota"),
    ({"node_count": [1]}, "node_count must be a valid integer, not [1]."),
    ({"master_count": 2}, "master_count must be 1, 3, 5 or 7, not 2."),
    ({"create_timeout": -5}, "create_timeout"),
    ({"name": "1abc"}, "'1abc'"),
    ({"name": "x" * 300}, "name"),
    ({"name": ""}, "name"),
    ({"name": 5}, "name must be a valid string, not 5."),
    ({"flavor_id": "huge"}, "There is no flavor 'huge'; provider fake has: small, tiny."),
    ({"master_flavor_id": "huge"}, "There is no flavor 'huge'"),
    ({"labels": {"provider": "nowhere"}}, "There is no provider 'nowhere'"),
    ({"labels": ["a"]}, "labels"),
    ({"labels": {"a": {"b": "c"}}}, "labels"),
    ({"cluster_template_id": "none"}, "none"),
    ({"cluster_template_id": None}, "cluster_template_id must be a valid string, not None."),
    ({"no_such_field": 1}, "There is no field 'no_such_field' here."),
    ({"status": "CREATE_COMPLETE"}, "There is no field 'status' here."),
    ({"project_id": "theirs"}, "There is no field 'project_id' here."),
    ({"uuid": "3f2b1c8e-0000-4000-8000-000000000000"}, "There is no field 'uuid' here."),
]


@pytest.mark.parametrize(("fields", "reason"), CLUSTER_FIELDS)
async def test_cluster_fields(api: Api, fields: dict[str, Any], reason: str) -> None:
    template = await api.template()
    body = {"cluster_template_id": template["uuid"], "name": "one", **fields}
    answer = await api.ask("POST", "/v1/clusters", body)
    assert answer.status_code == (403 if reason == "quota" else 400), answer.text
    assert reason in reasons(answer)[0]
    assert len(answer.text) < 1500
    assert (await api.ask("GET", "/v1/clusters")).json()["clusters"] == []


TEMPLATE_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"coe": None}, "coe must be a valid string, not None."),
    ({"coe": "nomad"}, "There is no COE 'nomad'; there is: fake."),
    ({"flavor_id": "huge"}, "There is no flavor 'huge'"),
    ({"name": "x" * 300}, "name"),
    ({"public": "perhaps"}, "public must be a valid boolean"),
    ({"tls_disabled": True}, "tls_disabled can't be true"),
    ({"apiserver_port": "high"}, "apiserver_port must be a valid integer"),
    ({"apiserver_port": -1}, "apiserver_port must be from 1024 to 65535, not -1."),
    ({"apiserver_port": 99999999}, "apiserver_port must be from 1024 to 65535"),
    ({"docker_volume_size": -5}, "docker_volume_size must be from 1 to 65536, not -5."),
    ({"docker_volume_size": 0}, "docker_volume_size must be from 1 to 65536, not 0."),
    ({"docker_volume_size": 2**62}, "docker_volume_size must be from 1 to 65536"),
    ({"server_type": "quantum"}, "server_type must be vm or bm, not 'quantum'."),
    ({"http_proxy": "http://a\x1b[2J"}, "http_proxy: 'http://a\\x1b[2J' must be printable"),
    (
        {
            "no_proxy": "x" * 4096,
            "http_proxy": "x" * 4096,
            "https_proxy": "x" * 4096,
            "tags": "x" * 4096,
            "driver": "x",
        },
        "all texts together may have 16384 bytes, not 16385.",
    ),
    ({"labels": {"a\nb": "1"}}, "labels: 'a\\nb' must be printable"),
    ({"labels": {"a": "\x1b]0;owned\x07"}}, "labels: '\\x1b]0;owned\\x07' must be printable"),
    ({"labels": {f"k{n}": "v" * 4000 for n in range(5)}}, "together may have 16384 bytes"),
    ({"labels": "{'a': '" + "v" * 16384 + "'}"}, "written as text, may have 16384 characters"),
    ({"docker_volume_size": False}, "docker_volume_size: must be a whole number"),
    ({"image": "x"}, "There is no field 'image' here."),
    ({"user_id": "someone"}, "There is no field 'user_id' here."),
]


@pytest.mark.parametrize(("fields", "reason"), TEMPLATE_FIELDS)
async def test_template_fields(api: Api, fields: dict[str, Any], reason: str) -> None:
    answer = await api.ask("POST", "/v1/clustertemplates", {"coe": "fake", **fields})
    assert answer.status_code == 400, answer.text
    assert reason in reasons(answer)[0]
    assert (await api.ask("GET", "/v1/clustertemplates")).json()["clustertemplates"] == []


HELD_UP = 1.0
"""Seconds of this process's time: ten times what any of these takes here, and less than what the
longest one takes Python where nobody looks at it beforehand."""
HUGE = "0x" + "f" * 5000
"""Python reads it, and refuses to write it down."""
SLOW = [
    "[" * 190 + "]" * 190, "-" * 100_000 + "1", "(" * 100_000, "1+" * 60_000 + "1",
    "{" + "1:1," * 60_000 + "}", "f'" + "{a}" * 40_000 + "'", "[" + "1," * 120_000 + "]",
]  # fmt: skip
"""Each takes Python a while to parse, or more memory than it has, where it is this long."""


@pytest.mark.parametrize(
    "written", [f"{{'a': {HUGE}}}", f"{{{HUGE}: 'a'}}", f"[{HUGE}]", f"{{'a': [{HUGE}]}}", *SLOW]
)
async def test_values_written_as_text(api: Api, written: str) -> None:
    """Each is refused with its field, and holds nobody up."""
    await api.cluster(name="one")
    health = [{"op": "replace", "path": "/health_status_reason", "value": written}]
    taints = written if written.startswith("[") else f"[{written}]"
    for method, path, body, field in (
        ("POST", "/v1/clustertemplates", {"coe": "fake", "labels": written}, "labels"),
        ("POST", "/v1/clusters/one/nodegroups", {"name": "g", "labels": written}, "labels"),
        (
            "POST",
            "/v1/clusters/one/nodegroups",
            {"name": "g", "node_taints": taints},
            "node_taints",
        ),
        ("PATCH", "/v1/clusters/one", health, "health_status_reason"),
    ):
        began = time.process_time()
        answer = await api.ask(method, path, body)
        assert answer.status_code == 400, answer.text
        assert field in reasons(answer)[0]
        assert len(answer.text) < 1500
        assert time.process_time() - began < HELD_UP


async def test_a_long_text_that_may_be_parsed_is_parsed_at_once(api: Api) -> None:
    body: dict[str, Any] = {"coe": "fake", "labels": "f'" + "{a}" * 5400 + "'"}
    began = time.process_time()
    assert (await api.ask("POST", "/v1/clustertemplates", body)).status_code == 400
    assert time.process_time() - began < HELD_UP


NETWORKS = [("swarm", "docker", True), ("swarm", "nope", False), ("fake", "anything", True)]


@pytest.mark.parametrize(("coe", "driver", "known"), NETWORKS)
def test_network_drivers_of_a_coe(coe: str, driver: str, known: bool) -> None:
    refused = pytest.raises(Invalid, match="network_driver must be docker or flannel for swarm")
    with contextlib.nullcontext() if known else refused:
        options.refuse_unknown_network(coe, {"network_driver": driver})


PATCHES: list[tuple[Any, str]] = [
    ([], "The patch is empty"),
    ({}, "The patch is empty"),
    ("x", "must be a valid list"),
    (5, "must be a valid list"),
    ([5], "not 5"),
    ([{"op": "replace"}], "path is missing"),
    ([{"path": "/node_count"}], "op is missing"),
    ([{"op": "test", "path": "/node_count", "value": 1}], "'test'"),
    ([{"op": "replace", "path": "/node_count"}], "'node_count' needs a value"),
    ([{"op": "add", "path": "/node_count", "value": None}], "'node_count' needs a value"),
    ({"node_count": None}, "'node_count' needs a value"),
    ({"node_count": 3, "health_status": None}, "'health_status' needs a value"),
    ([{"op": "replace", "path": "/node_count", "value": "x"}], "node_count must be"),
    ([{"op": "replace", "path": "/node_count", "value": -1}], "not -1"),
    ([{"op": "replace", "path": "node_count", "value": 1}], "The path 'node_count'"),
    ([{"op": "replace", "path": "/uuid", "value": "x"}], "uuid can't be changed"),
    ([{"op": "replace", "path": "/project_id", "value": "x"}], "project_id can't be changed"),
    ([{"op": "replace", "path": "/name", "value": "x"}], "'name'"),
    ([{"op": "replace", "path": "/nope", "value": 1}], "'nope'"),
    ([{"op": "replace", "path": "/node_count", "value": 1, "from": "/x"}], "from"),
    ({"nope": 1}, "'nope'"),
]


@pytest.mark.parametrize(("patch", "reason"), PATCHES)
async def test_patches(api: Api, patch: Any, reason: str) -> None:
    await api.cluster(name="one")
    answer = await api.ask("PATCH", "/v1/clusters/one", patch)
    assert answer.status_code == 400, answer.text
    assert reason in " ".join(reasons(answer))
    assert (await api.ask("GET", "/v1/clusters/one")).json()["node_count"] == 1


@pytest.mark.parametrize("csr", ["", "none", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"])
async def test_no_csr(api: Api, csr: str) -> None:
    uuid = await api.cluster(name="one")
    answer = await api.ask("POST", "/v1/certificates", {"cluster_uuid": uuid, "csr": csr})
    assert answer.status_code == 400, answer.text


async def test_a_body_is_missing(api: Api) -> None:
    answer = await api.ask("POST", "/v1/clusters")
    assert answer.status_code == 400
    assert reasons(answer) == ["the body is missing."]


@given(st.binary(max_size=200))
def test_any_bytes_pass_or_are_refused(content: bytes) -> None:
    try:
        json_value(content)
    except Invalid:
        return
    json.loads(content)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=30,
    )
)
def test_json_is_let_through_as_it_is(value: Any) -> None:
    """All but its depth, and text and numbers that can't be stored."""
    content = json.dumps(value)
    storable = "\\u0000" not in content and "\\ud" not in content
    storable = storable and not re.search(r"\d{19}", content)
    try:
        json_value(content.encode())
    except Invalid:
        assert depth(value) > DEEPEST or not storable


def depth(value: Any) -> int:
    inner = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(map(depth, inner), default=0) if isinstance(inner, list) else 0
