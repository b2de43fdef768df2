"""How many changes a project may ask for."""

from __future__ import annotations

import httpx
import pytest

from moorage.api import create_api
from moorage.api.errors import TooMany
from moorage.api.rates import MOST_PROJECTS, Rates
from moorage.api.readiness import Readiness
from tests.unit.api.conftest import ADMIN, OURS, THEIRS, Api, PaperKeystone


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_fills_again() -> None:
    clock = Clock()
    rates = Rates(2, 3, clock=clock)
    for _ in range(3):
        rates.take("a")
    with pytest.raises(TooMany) as refusal:
        rates.take("a")
    assert refusal.value.delay == pytest.approx(0.5)
    rates.take("b")
    clock.now += 0.5
    rates.take("a")
    with pytest.raises(TooMany):
        rates.take("a")
    clock.now += 1000
    for _ in range(3):
        rates.take("a")
    with pytest.raises(TooMany):
        rates.take("a")


def test_what_is_kept_is_bounded_and_no_rate_is_no_limit() -> None:
    rates = Rates(1, 1)
    for number in range(MOST_PROJECTS + 10):
        rates.take(str(number))
    assert len(rates._buckets) == MOST_PROJECTS
    free = Rates(0, 1)
    for _ in range(100):
        free.take("a")


async def test_a_flood_gets_429_and_is_not_in_the_audit_log(api: Api) -> None:
    app = create_api(
        services=api.services,
        validator=PaperKeystone(),
        ready=Readiness({}),
        identity_url="",
        rates=Rates(0.01, 2),
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://cloud") as http:

        async def change(token: str) -> httpx.Response:
            return await http.delete("/v1/clusters/none", headers={"X-Auth-Token": token})

        assert [(await change(OURS)).status_code for _ in range(4)] == [404, 404, 429, 429]
        refused = await change(OURS)
        assert int(refused.headers["retry-after"]) in range(90, 101)
        (error,) = refused.json()["errors"]
        assert error["code"] == "container-infra.too-many-requests"
        assert "0.01 a second" in error["detail"]
        assert (await change(THEIRS)).status_code == 404, "another project has its own share"
        assert [(await change(ADMIN)).status_code for _ in range(3)] == [404, 404, 429]
        shown = await http.get("/v1/clusters", headers={"X-Auth-Token": OURS})
        assert shown.status_code == 200, "to look is not limited"
        # It is refused before anything of its body is read.
        body = {"X-Auth-Token": OURS, "content-length": "999999999"}
        assert (await http.post("/v1/clusters", headers=body)).status_code == 429
        assert (await http.delete("/v1/clusters/none")).status_code == 401
    told = (await api.ask("GET", "/v1/audit?all_projects=true", token=ADMIN)).json()["records"]
    assert [record["status"] for record in told] == [404] * 5
