"""Every answer in these tests is held against the API's own description."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import httpx
import jsonschema_rs
from starlette.exceptions import HTTPException

from moorage.api.routing import Route, Routes


class Description:
    """The API's OpenAPI, as served."""

    def __init__(self, schema: dict[str, Any], routes: Sequence[Route]) -> None:
        self._schema = schema
        self._find = Routes(routes).find
        self._validator = functools.cache(self._make_validator)

    def check(self, answer: httpx.Response) -> None:
        """Raises AssertionError for an answer that the description does not allow.

        What no route leads to is not described, and HEAD is not either.
        """
        request = answer.request
        path = request.url.path.rstrip("/") or "/"
        try:
            route, _ = self._find(request.method, path)
        except HTTPException:
            assert answer.status_code in {400, 401, 404, 405, 406}
            return
        if not route.described.get("include_in_schema", True):
            return
        operation = self._schema["paths"][route.path][request.method.lower()]
        responses = operation["responses"]
        assert str(answer.status_code) in responses, (request.method, path, answer.status_code)
        if content := responses[str(answer.status_code)].get("content"):
            reference = content["application/json"]["schema"]["$ref"]
            self._validator(reference).validate(answer.json())
        else:
            assert answer.content == b""

    def _make_validator(self, reference: str) -> Any:
        components = self._schema["components"]
        return jsonschema_rs.validator_for({"$ref": reference, "components": components})
