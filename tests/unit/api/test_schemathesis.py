"""schemathesis against the API: no 500, and no answer that its description does not allow.

Each operation is tried on a database of its own, with requests that fit its description
and with ones that don't, most of them about things that are there.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.unit.api.conftest import ADMIN, OURS, Api, opened
from tests.unit.api.test_guarded import Names, furnished, named

EXAMPLES = 25
"""Of each operation and way: what fits into half a minute."""
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    allow_header_conformance,
]
GOOD = {
    "cluster_template_id": "TEMPLATE",
    "cluster_template": "TEMPLATE",
    "baymodel_id": "TEMPLATE",
    "cluster_uuid": "CLUSTER",
    "coe": "fake",
    "name": "some",
    "flavor_id": "small",
    "master_flavor_id": None,
    "image_id": "host",
    "keypair": None,
    "keypair_id": None,
    "external_network_id": "public",
    "fixed_network": None,
    "fixed_subnet": None,
    "labels": {"a": "b"},
    "kind": "image",
    "provider": None,
    "detail": None,
    "project_id": "some",
    "resource": "Node",
}
"""Values of bodies' fields that nobody would guess; what is in capitals stands for an ident."""


@dataclass
class House:
    """hypothesis calls plain functions: they ask the API on this loop."""

    loop: asyncio.Runner
    furnished: Path
    target: Names
    description: dict[str, Any]

    @contextlib.contextmanager
    def copy(self, database: Path) -> Iterator[Api]:
        shutil.copy(self.furnished, database)
        api = opened(database)
        try:
            yield self.loop.run(api.__aenter__())
        finally:
            self.loop.run(api.__aexit__(None, None, None))

    def ask(self, api: Api, case: Any, token: str) -> httpx.Response:
        sent = requests.Request(**case.as_transport_kwargs(base_url="http://cloud:9511"))
        ready: Any = sent.prepare()
        headers = {**ready.headers, "X-Auth-Token": token}
        body = ready.body.encode() if isinstance(ready.body, str) else ready.body
        return self.loop.run(
            api.http.request(ready.method, ready.url, headers=headers, content=body)
        )


@pytest.fixture(scope="module")
def house(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A database with a thing of each kind, and the API's own description."""
    path = tmp_path_factory.mktemp("schemathesis") / "furnished.db"
    shutil.copy(empty, path)

    async def furnish() -> tuple[Names, dict[str, Any]]:
        async with opened(path) as api:
            return await furnished(api), (await api.ask("GET", "/openapi.json")).json()

    with asyncio.Runner() as runner:
        yield House(runner, path, *runner.run(furnish()))


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
def test_no_answer_that_is_not_described(house: House, tmp_path: Path, mode: Any) -> None:
    schema = schemathesis.openapi.from_dict(house.description)
    operations: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
    for number, operation in enumerate(operations):
        with house.copy(tmp_path / f"{number}.db") as api:
            attempt(house, api, operation, mode)
    assert len(operations) > 45


def attempt(house: House, api: Api, operation: Any, mode: GenerationMode) -> None:
    names = re.findall(r"{(\w+)}", operation.path)
    there = {name: named(operation.path, house.target)[name] for name in names}
    cases = operation.as_strategy(generation_mode=mode)
    if there and mode.is_positive:
        known = operation.as_strategy(generation_mode=mode, path_parameters=there)
        cases = st.one_of(known, known, cases)

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, real=st.booleans(), token=st.sampled_from([OURS, ADMIN]))
    def check(case: Any, real: bool, token: str) -> None:
        if isinstance(case.body, dict) and real:
            for field in GOOD.keys() & case.body.keys():
                value: Any = GOOD[field]
                capitals = value in ("TEMPLATE", "CLUSTER")
                case.body[field] = house.target[value] if capitals else value
        case.validate_response(house.ask(api, case, token), checks=CHECKS)

    check()
