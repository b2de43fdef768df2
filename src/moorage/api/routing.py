"""The routes: how they are declared, and which one a path leads to.

They are declared in FastAPI's words, and FastAPI describes them (openapi.py), but it does
not serve them: its way to a handler, through a list of regular expressions, dependencies
and exit stacks, takes as long as all the rest of a GET. So a handler takes its `Asked`,
what its path names, and a `body` if it has one, and nothing else: queries are read by
`paging`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter
from starlette.exceptions import HTTPException

from moorage.api.answers import Answer
from moorage.api.errors import shown
from moorage.api.versions import Bounds, bounds_of

Handler = Callable[..., Awaitable[Answer]]


class Route:
    """One method of one path.

    `body` checks what is sent; None: nothing is. `described` is what FastAPI's
    `add_api_route` is told beside path, method and handler.
    """

    __slots__ = ("body", "bounds", "described", "handler", "method", "path", "places")

    def __init__(
        self, method: str, path: str, handler: Handler, described: Mapping[str, Any]
    ) -> None:
        self.method = method
        self.path = path
        self.handler = handler
        self.described = described
        self.bounds: Bounds = bounds_of(path)
        self.places = [
            (segment[1:-1], place)
            for place, segment in enumerate(path.split("/"))
            if segment.startswith("{")
        ]
        hints = get_type_hints(handler)
        self.body: TypeAdapter[Any] | None = TypeAdapter(hints["body"]) if "body" in hints else None
        expected = {"asked", *(name for name, _ in self.places)} | hints.keys() & {"body"}
        if inspect.signature(handler).parameters.keys() != expected:
            raise TypeError(f"the handler of {path} must take just {sorted(expected)}")


class Router:
    """Where a module declares its routes; `described` holds for all of them."""

    def __init__(self, prefix: str = "", **described: Any) -> None:
        self.routes: list[Route] = []
        self._prefix = prefix
        self._described = described

    def route(self, method: str, path: str = "", **described: Any) -> Callable[[Handler], Handler]:
        """A decorator; the handler itself stays as it is."""

        def declare(handler: Handler) -> Handler:
            told = {**self._described, **described}
            self.routes.append(Route(method, self._prefix + path, handler, told))
            return handler

        return declare

    def get(self, path: str = "", **described: Any) -> Callable[[Handler], Handler]:
        return self.route("GET", path, **described)

    def post(self, path: str = "", **described: Any) -> Callable[[Handler], Handler]:
        return self.route("POST", path, **described)

    def patch(self, path: str = "", **described: Any) -> Callable[[Handler], Handler]:
        return self.route("PATCH", path, **described)

    def delete(self, path: str = "", **described: Any) -> Callable[[Handler], Handler]:
        return self.route("DELETE", path, **described)


class _Node:
    """What follows one segment: literals, and what takes any segment at all."""

    __slots__ = ("any", "literal", "methods")

    def __init__(self) -> None:
        self.literal: dict[str, _Node] = {}
        self.any: _Node | None = None
        self.methods: dict[str, Route] = {}


class Routes:
    """Every route, in a tree of segments.

    A segment that is spelled out goes before one that a name stands for.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for route in routes:
            node = self._root
            for segment in route.path.split("/"):
                if segment.startswith("{"):
                    node.any = node.any or _Node()
                    node = node.any
                else:
                    node = node.literal.setdefault(segment, _Node())
            node.methods[route.method] = route

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route, and what the path says for its names. Raises HTTPException: 404, 405."""
        segments = path.split("/")
        methods = _walk(self._root, segments, 0)
        if methods is None:
            raise HTTPException(404, f"There is nothing at {shown(path)}.")
        route = methods.get(method)
        if route is None:
            raise HTTPException(
                405,
                f"{method[:20]} is not for {shown(path)}.",
                {"allow": ", ".join(sorted(methods))},
            )
        return route, {name: segments[place] for name, place in route.places}


def _walk(node: _Node, segments: list[str], place: int) -> dict[str, Route] | None:
    if place == len(segments):
        return node.methods or None
    segment = segments[place]
    literal = node.literal.get(segment)
    if literal is not None and (found := _walk(literal, segments, place + 1)) is not None:
        return found
    if node.any is not None and segment:
        return _walk(node.any, segments, place + 1)
    return None
