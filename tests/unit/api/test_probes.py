"""What monitoring asks: who may, what it is told, and that it stays bounded."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from moorage.api.probes import Probes
from moorage.api.readiness import STOPPING, Readiness
from moorage.metrics import backends, census, requests, turns
from moorage.metrics.census import Page
from moorage.metrics.registry import OTHER, Bounded
from moorage.model.census import Alike, Census
from moorage.model.errors import NoRoom, QuotaExceeded, RetryLater
from tests.unit.api.conftest import ADMIN, OURS, Api


async def get(probes: Probes, path: str, method: str = "GET") -> httpx.Response:
    transport = httpx.ASGITransport(probes)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:9512") as http:
        return await http.request(method, path)


def samples(page: str) -> dict[str, list[Mapping[str, str]]]:
    """The labels of every sample, by name."""
    found: dict[str, list[Mapping[str, str]]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def value(page: str, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0.0


async def shown(api: Api) -> str:
    probes = Probes(Page(api.store.census.count), Readiness({}))
    return (await get(probes, "/metrics")).text


@pytest.mark.parametrize("token", [None, OURS, ADMIN])
@pytest.mark.parametrize("path", ["/metrics", "/v1/metrics"])
async def test_the_api_has_no_metrics(api: Api, path: str, token: str | None) -> None:
    answer = await api.ask("GET", path, token=token)
    assert answer.status_code == (404 if token else 401)


async def test_metrics_name_nobody(api: Api) -> None:
    name = f"secret-{uuid.uuid4().hex[:8]}"
    cluster = await api.cluster(name=name)
    for path in (f"/v1/clusters/{cluster}", f"/v1/clusters/{name}", f"/v1/{name}", f"/{name}"):
        await api.ask("GET", path)
        await api.ask("DELETE", path)
    await api.ask("GET", f"/v1/clusters/{name}", token=f"forged-{name}")
    page = await shown(api)
    for secret in (name, cluster, "ours", "theirs", "user", "forged"):
        for labels in (labels for found in samples(page).values() for labels in found):
            assert secret not in labels.values(), labels
    assert name not in page
    assert cluster not in page
    assert value(
        page, "moorage_clusters", status="DELETE_IN_PROGRESS", coe="fake", health="UNKNOWN"
    )
    assert value(page, "moorage_nodes", coe="fake") == 2


async def test_no_stranger_makes_a_new_series(api: Api) -> None:
    """Whatever paths, methods, tokens and versions a client comes up with."""
    await api.ask("GET", "/v1/none-such")
    before = samples(await shown(api))
    for number in range(30):
        await api.ask("GET", f"/v1/none-{number}")
        await api.ask("GET", f"/none/{number}", token=f"forged-{number}")
        await api.http.request(f"METHOD{number}", "/v1/clusters", headers={"X-Auth-Token": OURS})
        await api.ask("GET", f"/v1/clusters/{number}")
    after = samples(await shown(api))
    new = {
        (name, *sorted(labels.items()))
        for name, found in after.items()
        if name.startswith("moorage_api_requests")
        for labels in found
        if labels not in before.get(name, [])
    }
    assert len(new) <= 2 * 4, new  # 401, the odd method's 405, a cluster's 404, each with _created
    asked = [each for each in after["moorage_api_requests_total"]
             if each not in before.get("moorage_api_requests_total", [])]  # fmt: skip
    routes = {labels["route"] for labels in asked}
    assert routes <= {requests.NO_ROUTE, *(route.path for route in api.app.routes)}
    methods = {labels["method"] for labels in after["moorage_api_requests_total"]}
    assert methods <= {*requests.METHODS, "other"}


def test_plugins_do_not_make_series_without_end() -> None:
    bounded = Bounded(3)
    assert [bounded(text) for text in "abcdea"] == ["a", "b", "c", OTHER, OTHER, "a"]


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (NoRoom("x" * 500), "NoRoom"),
        (QuotaExceeded("y"), "QuotaExceeded"),
        (RetryLater("z"), "RetryLater"),
        (ZeroDivisionError("q"), "bug"),
    ],
)
async def test_failures_are_counted_by_type(api: Api, error: Exception, name: str) -> None:
    def count(page: str) -> float:
        return value(page, "moorage_step_failures_total", verb="observe", error=name)

    before = count(await shown(api))
    turns.step_ended("observe", "retry", 0.1, error)
    after = await shown(api)
    assert count(after) == before + 1
    assert str(error) not in {
        v for found in samples(after).values() for s in found for v in s.values()
    }


async def test_every_metric_is_explained_and_named_as_prometheus_asks(api: Api) -> None:
    families = list(text_string_to_metric_families(await shown(api)))
    ours = [family for family in families if family.name.startswith("moorage_")]
    assert len(ours) > 20
    for family in ours:
        assert len(family.documentation) > 30, family.name
        assert not family.name.endswith(("_total", "_ms", "_count"))
    assert {"process_resident_memory_bytes", "process_open_fds"} <= {f.name for f in families}


async def test_a_silent_store_costs_its_own_gauges_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "SECONDS", 0.05)

    async def never() -> Census:
        await asyncio.Event().wait()
        raise AssertionError

    page = (await get(Probes(Page(never), Readiness({})), "/metrics")).text
    assert value(page, "moorage_store_up") == 0
    assert "moorage_build_info" in page
    assert "moorage_clusters{" not in page


async def test_asking_often_asks_the_store_once() -> None:
    asked = 0

    async def count() -> Census:
        nonlocal asked
        asked += 1
        return Census([Alike("CREATE_COMPLETE", "swarm", "HEALTHY", 3, 9)], 2, 1.5)

    probes = Probes(Page(count), Readiness({}))
    pages = await asyncio.gather(*(get(probes, "/metrics") for _ in range(5)))
    assert asked == 1
    assert value(pages[0].text, "moorage_queue_clusters") == 2
    assert value(pages[0].text, "moorage_queue_oldest_seconds") == 1.5


async def test_the_queue_is_what_is_due_and_free(api: Api) -> None:
    await api.cluster(name="one")
    await api.cluster(name="two")
    assert (await api.store.census.count()).due == 2
    await api.store.claims.take("w", 30)
    counted = await api.store.census.count()
    assert counted.due == 1
    assert 0 <= counted.oldest_due_seconds < 60


async def test_only_these_and_only_to_look() -> None:
    async def count() -> Census:
        return Census([], 0, 0.0)

    probes = Probes(Page(count), Readiness({}))
    assert (await get(probes, "/")).status_code == 404
    assert (await get(probes, "/v1/clusters")).status_code == 404
    assert (await get(probes, "/metrics", "POST")).status_code == 405
    assert (await get(probes, "/healthz")).json() == {"status": "ok"}
    head = await get(probes, "/readyz", "HEAD")
    assert (head.status_code, head.content) == (200, b"")


async def test_readiness_names_each_part_and_takes_a_bounded_time() -> None:
    async def well() -> None: ...

    async def silent() -> None:
        await asyncio.Event().wait()

    async def away() -> None:
        raise RetryLater("Keystone at http://k does not answer.")

    async def broken() -> None:
        raise ZeroDivisionError("the password is hunter2")

    readiness = Readiness(
        {"store": silent, "identity": away, "conductor": broken, "well": well}, seconds=0.05
    )
    async with asyncio.timeout(1):
        report = await readiness.look()
    assert not report.ready
    assert report.parts == {
        "process": None,
        "store": "no answer within 0.05 s",
        "identity": "Keystone at http://k does not answer.",
        "conductor": "failed; the log has the cause",
        "well": None,
    }


async def test_readiness_is_asked_once_by_many_and_again_later() -> None:
    asked = 0

    async def well() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)

    readiness = Readiness({"store": well}, kept_seconds=60)
    await asyncio.gather(*(readiness.look() for _ in range(9)))
    assert (await readiness.look()).ready
    assert asked == 1
    fresh = Readiness({"store": well}, kept_seconds=0)
    await fresh.look()
    await fresh.look()
    assert asked == 3


async def test_who_stops_is_not_ready(api: Api) -> None:
    readiness = Readiness({})
    probes = Probes(Page(api.store.census.count), readiness)
    assert (await get(probes, "/readyz")).status_code == 200
    readiness.stop()
    answer = await get(probes, "/readyz")
    assert answer.status_code == 503
    assert json.loads(answer.text)["parts"] == [
        {"name": "process", "ok": False, "reason": STOPPING}
    ]


async def test_the_store_is_ready_where_it_takes_a_write(api: Api) -> None:
    await api.store.census.try_write()


async def test_counting_costs_little() -> None:
    """A hundredth of a small request: 1.5 µs where this was measured; ten times that fails."""
    loop = asyncio.get_running_loop()
    requests.answered("GET", "/v1/clusters", 200, 0.001)
    best = float("inf")
    for _ in range(5):
        began = loop.time()
        for _ in range(2000):
            requests.answered("GET", "/v1/clusters", 200, 0.001)
            backends.token_cached()
        best = min(best, (loop.time() - began) / 2000)
    assert best < 25e-6
