"""Every error as the clients of the container-infra API read it.

    {"errors": [{"request_id", "code", "status", "title", "detail", "links"}]}

and for 401, as Keystone's middleware has it, `{"error": {"code", "title", "message"}}`.
python-magnumclient shows the title to its user, so the title is the whole reason's
first sentence, and not a phrase of HTTP.
"""

from __future__ import annotations

import http
import math
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired

import msgspec
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from typing_extensions import TypedDict

from moorage.api.answers import Answer
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


class KeystoneError(TypedDict):
    code: int
    title: str
    message: str


class KeystoneErrors(TypedDict):
    """The body of a 401."""

    error: KeystoneError


class TooMany(RetryLater):
    """The project asks for more changes than its share: 429, and when to come again."""


class NotServed(Exception):
    """A version that is none, or that has no such route: 1.`since` to 1.`until` have it."""

    def __init__(self, reason: str, since: int, until: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.since = since
        self.until = until


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


def answer_to(error: Exception, request_id: str, *, identity_url: str = "") -> Answer:
    """The answer to a request that ended in `error`. A bug is a 500 that tells nothing."""
    headers: Mapping[str, str] | None = None
    versions: dict[str, str] = {}
    match error:
        case Unauthenticated():
            return _unauthorized(error.reason, identity_url)
        case Refused():
            status, reasons = _status_of(error), [error.reason]
        case RetryLater():
            status = 429 if isinstance(error, TooMany) else 503
            reasons = [error.reason]
            headers = {"retry-after": str(max(1, math.ceil(error.delay)))}
        case ValidationError():
            status = 400
            reasons = [_validation_reason(one) for one in error.errors()[:_MOST_ERRORS]]
        case NotServed():
            status, reasons = 406, [error.reason]
            versions = {"min_version": f"1.{error.since}", "max_version": f"1.{error.until}"}
        case HTTPException():
            status, reasons, headers = error.status_code, [str(error.detail)], error.headers
        case _:
            status = 500
            reasons = [f"Moorage failed; its log has the cause, under {request_id}."]
    return _answer(status, reasons, request_id, headers or {}, versions)


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
    headers: Mapping[str, str],
    more: Mapping[str, str],
) -> Answer:
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
    return _encoded({"errors": errors}, status, headers, " ".join(reasons))


def _unauthorized(reason: str, identity_url: str) -> Answer:
    body = {"error": {"code": 401, "title": "Unauthorized", "message": reason}}
    return _encoded(body, 401, {"www-authenticate": f'Keystone uri="{identity_url}"'}, reason)


def _encoded(body: object, status: int, headers: Mapping[str, str], reason: str) -> Answer:
    raw = tuple((name.encode(), value.encode("latin-1")) for name, value in headers.items())
    return Answer(msgspec.json.encode(body), status, raw, reason=reason)


def _validation_reason(error: Mapping[str, Any]) -> str:
    """One of pydantic's findings as a sentence with the field's own name and the value."""
    place = [str(part) for part in error["loc"]]
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
