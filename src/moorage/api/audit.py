"""The audit log: a line for every request of a known caller that meant to change something.

It is written after the change and before the answer. Where Moorage is killed in between, the
request has no line, and its client no answer; what it changed of a cluster stands among the
cluster's events, with who asked for it and the request's id, for those are written in the
transaction of the change itself.
"""

from __future__ import annotations

import datetime
from urllib.parse import quote

import structlog

from moorage.api.answers import Answer
from moorage.api.context import CHANGING, Context
from moorage.model.errors import RetryLater
from moorage.model.event import Record
from moorage.services import AuditService

MOST_PATH, MOST_REASON = 500, 1000
"""Characters. A tenant chooses what stands in both."""

_log = structlog.get_logger("moorage.api")


async def record(audit: AuditService, asked: Context, answer: Answer) -> None:
    """Write down what came of a request, before its answer goes out.

    What it changed is changed: a log that can't be written must not make an error of it.
    Neither the query nor the body is written down, and no header. What a rate limit turned
    away is not written down either: a flood must not fill the log of what was done.
    """
    caller = asked.caller
    if caller is None or asked.method not in CHANGING or asked.turned_away:
        return
    try:
        await audit.record(
            Record(
                at=datetime.datetime.now(datetime.UTC),
                request_id=asked.request_id,
                user_id=caller.user_id,
                user_name=caller.user_name,
                project_id=caller.project_id,
                method=asked.method,
                path=quote(asked.path[:MOST_PATH])[:MOST_PATH],
                address=asked.address,
                status=answer.status_code,
                reason=answer.reason[:MOST_REASON] if answer.reason else None,
                target=asked.target,
            )
        )
    except RetryLater as error:
        # The line in the log has the rest: a disk that is full gets no traceback on top.
        _log.warning("not in the audit log", request_id=asked.request_id, reason=error.reason)
    except Exception:
        _log.exception(
            "not in the audit log", request_id=asked.request_id, status=answer.status_code
        )
