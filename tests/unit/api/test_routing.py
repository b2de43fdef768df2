"""The way from a path to its handler."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.exceptions import HTTPException

from moorage.api.answers import Answer, nothing
from moorage.api.context import Asked
from moorage.api.routing import Router, Routes
from tests.unit.api.conftest import Api


def routes() -> Routes:
    router = Router("/v1/boats")

    @router.get()
    async def fleet(asked: Asked) -> Answer:
        return nothing()

    @router.get("/{boat}")
    @router.delete("/{boat}")
    async def one(asked: Asked, boat: str) -> Answer:
        return nothing()

    @router.get("/detail")
    async def all_of_them(asked: Asked) -> Answer:
        return nothing()

    @router.get("/{boat}/crew/{sailor}")
    async def sailor(asked: Asked, boat: str, sailor: str) -> Answer:
        return nothing()

    return Routes(router.routes)


@pytest.mark.parametrize(
    ("path", "route", "names"),
    [
        ("/v1/boats", "/v1/boats", {}),
        ("/v1/boats/detail", "/v1/boats/detail", {}),
        ("/v1/boats/argo", "/v1/boats/{boat}", {"boat": "argo"}),
        ("/v1/boats/{boat}", "/v1/boats/{boat}", {"boat": "{boat}"}),
        (
            "/v1/boats/detail/crew/jason",
            "/v1/boats/{boat}/crew/{sailor}",
            {"boat": "detail", "sailor": "jason"},
        ),
    ],
)
def test_what_is_spelled_out_goes_first(path: str, route: str, names: dict[str, str]) -> None:
    found, named = routes().find("GET", path)
    assert (found.path, named) == (route, names)


@pytest.mark.parametrize(
    "path",
    ["", "/", "/v1", "/v1/boats/", "/v1/boats//crew/jason", "/v1/boats/a/b", "//v1/boats"],
)
def test_nothing_there(path: str) -> None:
    with pytest.raises(HTTPException) as refused:
        routes().find("GET", path)
    assert refused.value.status_code == 404


def test_another_method_is_told_which_there_are() -> None:
    with pytest.raises(HTTPException) as refused:
        routes().find("PUT", "/v1/boats/argo")
    assert refused.value.status_code == 405
    assert refused.value.headers == {"allow": "DELETE, GET"}


async def test_allow(api: Api) -> None:
    answer = await api.ask("PUT", "/v1/clusters/one")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET, PATCH")


def test_a_handler_takes_what_it_is_given() -> None:
    """A parameter that nobody would fill in is found at the start, and not by a client."""
    router = Router()

    async def wants_more(asked: Asked, limit: int = 5) -> Answer:
        return nothing()

    async def wants_less() -> Answer:
        return nothing()

    handlers: list[Any] = [wants_more, wants_less]
    for handler in handlers:
        with pytest.raises(TypeError, match="must take just"):
            router.get("/v1/boats")(handler)
    with pytest.raises(TypeError, match="must take just"):
        router.get("/v1/boats/{boat}")(handlers[0])
