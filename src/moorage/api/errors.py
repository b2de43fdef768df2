"""Every error as the clients of the container-infra API read it.

    {"errors": [{"request_id", "code", "status", "title", "detail", "links"}]}

and for 401, as Keystone's middleware has it, `{"error": {"code", "title", "message"}}`.
python-magnumclient shows the title to its user, so the title is the whole reason's
first sentence, and not a phrase of HTTP.
"""

from __future__ import annotations

import http
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from typing_extensions import TypedDict

from moorage.model.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NoRoom,
    NotFound,
    Refused,
    RetryLater,
    Unauthenticated,
)


class Error(TypedDict):
    """One error. `code` is for programs, `title` and `detail` for people."""

    request_id: str
    code: str
    status: int
    title: str
    detail: str
    links: list[str]
    min_version: NotRequired[str]
    max_version: NotRequired[str]


class Errors(TypedDict):
    """The body of every refusal but 401."""

    errors: list[Error]


_STATUS: Mapping[type[Refused], int] = {
    Invalid: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    NoRoom: 409,
}
_MOST_ERRORS = 10
_SHOWN = 80
"""So much of a wrong value is shown back, in characters."""


def response(error: Exception, request_id: str, *, identity_url: str = "") -> Response:
    """The answer to a request that ended in `error`. A bug is a 500 that tells nothing."""
    match error:
        case Unauthenticated():
            return _unauthorized(error.reason, identity_url)
        case Refused():
            return _answer(_status_of(error), [error.reason], request_id)
        case RetryLater():
            seconds = max(1, math.ceil(error.delay))
            return _answer(503, [error.reason], request_id, {"retry-after": str(seconds)})
        case RequestValidationError():
            reasons = [_validation_reason(one) for one in error.errors()[:_MOST_ERRORS]]
            return _answer(400, reasons, request_id)
        case HTTPException():
            return _answer(error.status_code, [str(error.detail)], request_id, error.headers)
        case _:
            reason = f"Moorage failed; its log has the cause, under {request_id}."
            return _answer(500, [reason], request_id)


def not_acceptable(reason: str, request_id: str, *, least: str, most: str) -> Response:
    """406: a version that is not served, with those that are."""
    return _answer(406, [reason], request_id, None, min_version=least, max_version=most)


def shown(value: object) -> str:
    """A client's value, short and on one line."""
    quoted = repr(value)
    return quoted if len(quoted) <= _SHOWN else f"{quoted[: _SHOWN - 3]}..."


def _status_of(error: Refused) -> int:
    """Of the nearest class; a Refused of its own is a plain 400."""
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 400)


def _answer(
    status: int,
    reasons: Sequence[str],
    request_id: str,
    headers: Mapping[str, str] | None = None,
    **more: str,
) -> Response:
    code = http.HTTPStatus(status).name.lower().replace("_", "-")
    errors = [
        {
            "request_id": request_id,
            "code": f"container-infra.{code}",
            "status": status,
            "title": reason.split(". ", 1)[0].removesuffix("."),
            "detail": reason,
            "links": [],
            **more,
        }
        for reason in reasons
    ]
    return Response(
        json.dumps({"errors": errors}), status, dict(headers or {}), media_type="application/json"
    )


def _unauthorized(reason: str, identity_url: str) -> Response:
    body = {"error": {"code": 401, "title": "Unauthorized", "message": reason}}
    headers = {"www-authenticate": f'Keystone uri="{identity_url}"'}
    return Response(json.dumps(body), 401, headers, media_type="application/json")


def _validation_reason(error: Mapping[str, Any]) -> str:
    """One of pydantic's findings as a sentence with the field's own name and the value."""
    _, *inner = error["loc"]  # the first says that it is in the body
    place = [str(part) for part in inner]
    field = ".".join(place) or "the body"
    match error["type"]:
        case "extra_forbidden":
            return f"There is no field {shown('.'.join(place))} here."
        case "missing":
            return f"{field} is missing."
        case "value_error":
            return f"{field}: {error['ctx']['error']}."
        case _:
            problem = str(error["msg"]).replace("Input should be", "must be")
            return f"{field} {problem}, not {shown(error['input'])}."
