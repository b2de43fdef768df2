"""The API over the real services, a store of its own and the shipped fakes; Keystone is a dict."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from json import loads
from pathlib import Path
from typing import Any

import httpx
import pytest

from moorage.api import create_api
from moorage.api.asgi import Api as App
from moorage.api.readiness import Readiness
from moorage.drivers.fake import FakeDriver
from moorage.model.caller import Caller
from moorage.model.errors import RetryLater, Unauthenticated
from moorage.model.node import Flavor
from moorage.model.quota import Resource
from moorage.providers.fake import FakeProvider
from moorage.services import Catalogue, Services, open_services
from moorage.store import Store
from moorage.trust.seal import Seal
from tests.unit.api.described import Description

TINY = Flavor("tiny", vcpus=1, memory_mib=512, disk_gib=2, pids=100)
SMALL = Flavor("small", vcpus=2, memory_mib=1024, disk_gib=5, pids=100)


def caller(project: str, *roles: str) -> Caller:
    return Caller("user", "user", project, project, frozenset(roles), 4e9)


OURS, READER, THEIRS, ADMIN, NOBODY = "ours", "reader", "theirs", "admin", "nobody"
SILENT, BUG = "silent", "bug"
"""Tokens: in these tests a token is the name of whoever bears it."""


@dataclass
class PaperKeystone:
    """The port `TokenValidator`. A token that it does not know is forged, expired or revoked."""

    callers: dict[str, Caller] = field(
        default_factory=lambda: {
            OURS: caller("ours", "member", "reader"),
            READER: caller("ours", "reader"),
            THEIRS: caller("theirs", "member", "reader"),
            ADMIN: caller("admin", "admin", "member", "reader"),
            NOBODY: caller("ours", "auditor"),
        }
    )
    seen: list[str] = field(default_factory=list)

    async def validate(self, token: str, address: str = "") -> Caller:
        self.seen.append(token)
        if token == SILENT:
            raise RetryLater("Keystone does not answer.", delay=2.5)
        if token == BUG:
            raise ZeroDivisionError("the secret of the house")
        if token not in self.callers:
            raise Unauthenticated("The token is unknown, expired or revoked.")
        return self.callers[token]


@dataclass
class Api:
    """The application and a client that speaks to it without a socket."""

    app: App
    http: httpx.AsyncClient
    keystone: PaperKeystone
    store: Store
    services: Services
    unready: list[RetryLater]

    async def ask(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        token: str | None = OURS,
        version: str | None = "1.14",
        headers: dict[str, str] | None = None,
        content: Any = None,
    ) -> httpx.Response:
        """`json` None: no body."""
        sent = dict(headers or {})
        if token is not None:
            sent["X-Auth-Token"] = token
        if version is not None:
            sent["OpenStack-API-Version"] = f"container-infra {version}"
        body: dict[str, Any] = {"content": content} if content is not None else {}
        if json is not None:
            body = {"json": json}
        answer = await self.http.request(method, path, headers=sent, **body)
        (await _description(self.app)).check(answer)
        return answer

    async def template(self, token: str = OURS, **fields: Any) -> dict[str, Any]:
        answer = await self.ask(
            "POST", "/v1/clustertemplates", {"coe": "fake", "name": "small", **fields}, token=token
        )
        assert answer.status_code == 201, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def cluster(self, token: str = OURS, **fields: Any) -> str:
        """The uuid of a new cluster, from a template of its own."""
        template = await self.template(token, name=None)
        answer = await self.ask(
            "POST",
            "/v1/clusters",
            {"cluster_template_id": template["uuid"], **fields},
            token=token,
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["uuid"])


_descriptions: list[Description] = []


async def _description(app: App) -> Description:
    """That of the first application: they are all alike, and it takes a while."""
    if not _descriptions:
        (route,) = (route for route in app.routes if route.path == "/openapi.json")
        served = await route.handler(None)
        _descriptions.append(Description(loads(bytes(served.body)), app.routes))
    return _descriptions[0]


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all tables, to be copied: making them takes longer than most tests."""
    path = tmp_path_factory.mktemp("api") / "moorage.db"

    async def make() -> None:
        await (await Store.open(f"sqlite:///{path}", Seal([b"k" * 32]))).close()

    asyncio.run(make())
    return path


@contextlib.asynccontextmanager
async def opened(database: Path) -> AsyncIterator[Api]:
    """The API over the database in that file."""
    store = await Store.open(f"sqlite:///{database}", Seal([b"k" * 32]))
    catalogue = Catalogue(
        [TINY, SMALL], {"fake": FakeDriver()}, {"fake": FakeProvider()}, "fake", store.offers
    )
    services = open_services(store, catalogue, {Resource.CLUSTER: 10, Resource.NODE: 50})
    keystone = PaperKeystone()
    unready: list[RetryLater] = []

    async def is_ready() -> None:
        if unready:
            raise unready[0]

    app = create_api(
        services=services,
        validator=keystone,
        ready=Readiness({"conductor": is_ready}, kept_seconds=0),
        identity_url="http://cloud:5000/v3",
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://cloud:9511") as http:
        yield Api(app, http, keystone, store, services, unready)
    await store.close()


@pytest.fixture
async def api(tmp_path: Path, empty: Path) -> AsyncIterator[Api]:
    database = tmp_path / "moorage.db"
    shutil.copy(empty, database)
    async with opened(database) as api:
        yield api


def reasons(answer: httpx.Response) -> list[str]:
    return [error["detail"] for error in answer.json()["errors"]]
