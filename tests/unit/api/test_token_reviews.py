"""Who asks whether a token is good, and what it is told: the attackers' tests come first."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from moorage.api.rates import Rates
from moorage.api.token_reviews import BURST, MOST_BODY, STRANGERS_BURST, TokenReviews
from moorage.drivers.fake import FakeDriver
from moorage.model.caller import Caller
from moorage.model.errors import RetryLater
from moorage.model.node import Flavor
from moorage.model.sign_in import credential_of, path_of
from moorage.providers.fake import FakeProvider
from moorage.services import Catalogue, SignInService, open_services
from moorage.services.requests import NewCluster, NewTemplate
from moorage.services.sign_in import KNOWN_SECONDS
from moorage.store import Store
from moorage.trust import ClusterAuthority
from moorage.trust.seal import Seal
from tests.told import Told, listening
from tests.unit.api.conftest import (
    ADMIN,
    BUG,
    NOBODY,
    OURS,
    READER,
    SILENT,
    THEIRS,
    PaperKeystone,
    caller,
)

TINY = Flavor("tiny", vcpus=1, memory_mib=512, disk_gib=2, pids=100)


class Kubernetes(FakeDriver):
    coe = "kubernetes"


@dataclass
class Door:
    http: httpx.AsyncClient
    keystone: PaperKeystone
    store: Store
    clock: list[float]
    clusters: dict[str, str] = field(default_factory=dict)
    """By project."""

    async def credential(self, cluster: str) -> str:
        return credential_of(ClusterAuthority(await self.store.clusters.ca(cluster)))

    async def send(self, cluster: str, credential: str, **body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {credential}", "Content-Type": "application/json"}
        return await self.http.post(path_of(cluster), headers=headers, **body)

    async def review(self, token: str, project: str = "ours") -> dict[str, Any]:
        """The status that the project's cluster is told."""
        cluster = self.clusters[project]
        answer = await self.send(cluster, await self.credential(cluster), json=review(token))
        assert answer.status_code == 200, answer.text
        value = answer.json()
        assert (value["apiVersion"], value["kind"]) == ("authentication.k8s.io/v1", "TokenReview")
        status: dict[str, Any] = value["status"]
        return status


def review(token: Any, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "metadata": {"creationTimestamp": None},
        "spec": {"token": token, "audiences": ["https://kubernetes.default.svc.cluster.local"]},
        "status": {"user": {}},
        **more,
    }


@pytest.fixture
async def door(tmp_path: Path, empty: Path) -> AsyncIterator[Door]:
    database = tmp_path / "moorage.db"
    shutil.copy(empty, database)
    store = await Store.open(f"sqlite:///{database}", Seal([b"k" * 32]))
    coes = {"kubernetes": Kubernetes(), "fake": FakeDriver()}
    catalogue = Catalogue([TINY], coes, {"fake": FakeProvider()}, "fake", store.offers)
    services = open_services(store, catalogue, {})
    keystone, clock = PaperKeystone(), [1000.0]
    app = TokenReviews(
        SignInService(store, keystone, clock=lambda: clock[0]),
        rates=Rates(1.0, BURST, clock=lambda: clock[0]),
        lookups=Rates(1.0, STRANGERS_BURST, clock=lambda: clock[0]),
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="https://machine:9513"
    ) as http:
        made = Door(http, keystone, store, clock)
        for token in (OURS, THEIRS):
            who = keystone.callers[token]
            for coe in ("fake", "kubernetes"):
                await services.templates.create(
                    who, NewTemplate(name=coe, coe=coe, flavor_id="tiny", master_flavor_id="tiny")
                )
                cluster = await services.clusters.create(who, NewCluster(template=coe, name=coe))
                made.clusters[f"{who.project_id} {coe}" if coe == "fake" else who.project_id] = (
                    cluster.uuid
                )
        yield made
    await store.close()


NO = {"authenticated": False}


async def test_a_token_gives_what_a_certificate_would(door: Door) -> None:
    assert await door.review(OURS) == {
        "authenticated": True,
        "user": {"username": "user", "groups": ["moorage:members"]},
    }
    assert (await door.review(READER))["user"]["groups"] == ["moorage:readers"]
    door.keystone.callers["boss"] = caller("ours", "admin", "member", "reader")
    assert (await door.review("boss"))["user"]["groups"] == ["moorage:members"]


async def test_what_is_refused_is_refused_in_one_way(door: Door) -> None:
    """Another project's token, an admin's elsewhere, one without a role, without a project."""
    door.keystone.callers["nowhere"] = caller("", "member")
    for token in (THEIRS, ADMIN, NOBODY, "nowhere", "forged", "x" * 5000, "\0", "ü"):
        assert await door.review(token) == NO, token


async def test_no_user_has_a_name_of_kubernetes_own(door: Door) -> None:
    for user in ("system:masters", "system:node:web-master-0", ""):
        door.keystone.callers["odd"] = Caller(
            user, "odd", "ours", "ours", frozenset({"member"}), 4e9
        )
        assert await door.review("odd") == NO


async def test_only_a_clusters_own_credential_is_good(door: Door) -> None:
    ours, theirs = door.clusters["ours"], door.clusters["theirs"]
    mine = await door.credential(ours)
    assert (await door.send(ours, mine, json=review(OURS))).status_code == 200
    for cluster, credential in (
        (theirs, mine),
        (ours, await door.credential(theirs)),
        (ours, mine[:-1]),
        (ours, f"{mine} "),
        (ours, mine.upper()),
        (ours, OURS),
        ("00000000-0000-4000-8000-000000000000", mine),
        (door.clusters["ours fake"], await door.credential(door.clusters["ours fake"])),
    ):
        door.keystone.seen.clear()
        answer = await door.send(cluster, credential, json=review(OURS))
        assert answer.status_code == 401, (cluster, credential)
        assert answer.json() == {"error": "Only a cluster's own API servers may ask here."}
        assert door.keystone.seen == [], "nobody was asked for a stranger"


async def test_strangers_without_any_credential(door: Door) -> None:
    path = path_of(door.clusters["ours"])
    mine = await door.credential(door.clusters["ours"])
    for headers in (
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer "},
        {"Authorization": mine},
        {"Authorization": f"Basic {mine}"},
        {"X-Auth-Token": OURS},
    ):
        answer = await door.http.post(path, headers=headers, json=review(OURS))
        assert answer.status_code == 401
        assert answer.headers["connection"] == "close"
    good = {"Authorization": f"Bearer {mine}"}
    assert (await door.http.get(path, headers=good)).status_code == 405
    for wrong in ("/", "/v1/clusters", "/clusters/x/token-reviews", f"{path}/more", "/metrics"):
        assert (await door.http.post(wrong, headers=good)).status_code == 404


async def test_tries_of_strangers_are_bounded_and_hinder_nobody(door: Door) -> None:
    ours = door.clusters["ours"]
    mine = await door.credential(ours)
    assert (await door.send(ours, mine, json=review(OURS))).status_code == 200
    tried = [(await door.send(ours, "0" * 64)).status_code for _ in range(STRANGERS_BURST + 5)]
    assert tried.count(429) == 6
    assert "retry-after" not in (await door.send(ours, "0" * 64)).headers
    assert (await door.send(ours, mine, json=review(OURS))).status_code == 200


async def test_a_cluster_asks_so_often_and_no_more(door: Door) -> None:
    told = [await door.review(OURS) for _ in range(BURST + 3)]
    assert [status["authenticated"] for status in told].count(True) == BURST
    assert told[-1] == {**NO, "error": "Too many tokens are brought to this cluster."}
    ours = door.clusters["ours"]
    answer = await door.send(ours, await door.credential(ours), content=b"garbage")
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert (await door.review(THEIRS, "theirs"))["authenticated"], "another one is not hindered"
    door.clock[0] += 5
    assert (await door.review(OURS))["authenticated"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b"[" * 10_000,
        b'{"spec":' * 1500,
        b'{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview"}',
        b'{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":7}}',
        b'{"apiVersion":"authentication.k8s.io/v1beta1","kind":"TokenReview","spec":{"token":"ours"}}',
        b'{"apiVersion":"authentication.k8s.io/v1","kind":"Pod","spec":{"token":"ours"}}',
    ],
)
async def test_what_is_no_review_is_refused_unseen(door: Door, body: bytes) -> None:
    ours = door.clusters["ours"]
    answer = await door.send(ours, await door.credential(ours), content=body)
    assert answer.status_code == 400
    assert door.keystone.seen == []


async def test_a_body_has_a_bound(door: Door) -> None:
    ours = door.clusters["ours"]
    mine = await door.credential(ours)
    answer = await door.send(ours, mine, json=review("x" * MOST_BODY))
    assert answer.status_code == 413

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 4096

    assert (await door.send(ours, mine, content=endless())).status_code == 413


async def test_where_keystone_is_silent_the_api_server_is_told_so_and_keeps_nothing(
    door: Door,
) -> None:
    assert await door.review(SILENT) == {**NO, "error": "Keystone does not answer."}


async def test_a_token_s_end_is_its_end_here(door: Door) -> None:
    assert (await door.review(OURS))["authenticated"]
    del door.keystone.callers[OURS]
    assert await door.review(OURS) == NO, "nothing is kept but what the validator keeps"


async def test_the_store_is_asked_once_in_a_while(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = door.clusters["ours"]
    mine = await door.credential(ours)
    await door.send(ours, mine, json=review(OURS))

    async def gone(*_: object) -> None:
        raise RetryLater("the store is away")

    monkeypatch.setattr(door.store.clusters, "get", gone)
    assert (await door.send(ours, mine, json=review(OURS))).status_code == 200
    assert (await door.send(ours, "0" * 64)).status_code == 503
    door.clock[0] += KNOWN_SECONDS + 1
    assert (await door.send(ours, mine, json=review(OURS))).status_code == 503


async def test_neither_tokens_nor_credentials_are_written_down(door: Door) -> None:
    ours = door.clusters["ours"]
    mine = await door.credential(ours)
    secrets = ("gAAAAA-a-token-that-nobody-has", mine, "another-stranger-s-try")
    told: Told
    with listening() as told:
        for body in (review(secrets[0]), review([secrets[0]]), {"spec": {"token": secrets[0]}}):
            door.clock[0] += 1
            answer = await door.send(ours, mine, json=body)
            assert not [hidden for hidden in secrets if hidden in answer.text]
        await door.send(ours, secrets[2], json=review(secrets[0]))
        answer = await door.send(ours, mine, json=review(BUG))
        assert answer.status_code == 500
        assert "secret of the house" not in answer.text
        text = told.file.getvalue().decode()
    lines = [line for line in told.lines() if line["event"] == "token review"]
    assert (lines[0]["cluster"], lines[0]["status"], lines[0]["authenticated"]) == (
        ours,
        200,
        False,
    )
    assert len(lines) == 2, "one a second of a cluster, and one of a stranger"
    assert not [hidden for hidden in secrets if hidden in text]
