"""What Moorage stands on: its database, and the Keystone that it asks."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

from prometheus_client import Counter, Histogram

from moorage.metrics.registry import REGISTRY
from moorage.model.errors import Refused, RetryLater

P = ParamSpec("P")
T = TypeVar("T")

_WRITES = Histogram(
    "moorage_store_write_duration_seconds",
    "How long write transactions take: waiting for their turn, and the disk's sync, included.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
_FAILED = Counter(
    "moorage_store_write_failures",
    "Writes that the database did not take: full, locked, away, or its disk fails.",
    registry=REGISTRY,
)
WRITE_RETRIES = Counter(
    "moorage_store_write_retries",
    "Transactions begun again since they met others (PostgreSQL). Some are normal.",
    registry=REGISTRY,
)
_TOKENS = Counter(
    "moorage_tokens",
    "Tokens that requests brought. cached: known already. validated: Keystone said yes. "
    "refused: forged, expired or revoked. unavailable: Keystone was silent.",
    ["result"],
    registry=REGISTRY,
)


class Token(enum.StrEnum):
    CACHED = "cached"
    VALIDATED = "validated"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"


_TOKENS_BY = {result: _TOKENS.labels(result.value) for result in Token}
token_cached = _TOKENS_BY[Token.CACHED].inc
"""On the way of every request."""


def token(result: Token) -> None:
    _TOKENS_BY[result].inc()


def timed_write(write: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A database's `write`, timed. A refusal by a rule (a quota, a name) is no failure of it."""

    @functools.wraps(write)
    async def timed(*args: P.args, **kwargs: P.kwargs) -> T:
        began = perf_counter()
        try:
            return await write(*args, **kwargs)
        except RetryLater:
            _FAILED.inc()
            raise
        except Refused:
            raise
        finally:
            _WRITES.observe(perf_counter() - began)

    return timed
