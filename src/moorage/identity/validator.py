"""Tokens into callers, with as few questions to Keystone as can be.

An answer is believed for `cache_seconds`, or until the token ends: that is how long a
revoked token may still work. A "no" is believed for `REFUSED_SECONDS`, and kept apart,
so that a flood of forged tokens can't push the good ones out; nor can it take the places of
those that wait for Keystone (`EACH`, `RESERVED`). Requests that bring one
token at one time share one question. What is kept of a token is its SHA-256.

Nothing is believed past its time: while Keystone is silent, new and old tokens alike
end in RetryLater.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Generic, NoReturn, Protocol, TypeVar

import structlog

from moorage.clients.keystone import TokenInfo
from moorage.metrics.backends import Token, token_cached
from moorage.metrics.backends import token as token_seen
from moorage.model.caller import Caller
from moorage.model.errors import Forbidden, Refused, RetryLater, Unauthenticated

REFUSED_SECONDS = 5.0
REFUSED_ENTRIES = 1000
NO_TOKEN = "moorage-asks-whether-you-are-there"  # noqa: S105 -- nobody's
"""Keystone's answer to it, that there is none such, says that it is there and lets us ask."""
PENDING = 256
"""So many different tokens may wait for Keystone's answer; one more is told to come later."""
RESERVED = 64
"""Of those, for tokens that were good before: new ones, which may be forged, can't have them."""
EACH = 16
"""So many new tokens of one address may wait: what it forges keeps no place from others."""
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")
"""What a header can carry. Fernet tokens have about 200 characters, JWS some 500 more."""

_Value = TypeVar("_Value")
_log = structlog.get_logger("moorage.identity")


class Keystone(Protocol):
    """The one question that is asked (`clients.keystone.KeystoneClient` answers it)."""

    async def show_token(self, subject: str) -> TokenInfo | None: ...


class KeystoneValidator:
    """The port `TokenValidator`, by a Keystone."""

    def __init__(
        self,
        keystone: Keystone,
        *,
        cache_seconds: float = 30.0,
        entries: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keystone = keystone
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._known: _Recent[Caller] = _Recent(entries)
        self._refused: _Recent[Refused] = _Recent(REFUSED_ENTRIES)
        self._pending: dict[bytes, asyncio.Task[Caller]] = {}
        self._good: _Recent[bool] = _Recent(entries)
        """Tokens that Keystone knew when it was asked last."""
        self._new: Counter[str] = Counter()
        """Pending tokens that were not among those: how many, by the address that brought them."""
        self._answered_at = float("-inf")

    async def validate(self, token: str, address: str = "") -> Caller:
        """Who bears this token. `address`: who brings it, as `connections.peer_of` has it.

        Raises Unauthenticated; Forbidden for a token without a project; RetryLater
        where Keystone is silent or has too many questions waiting.
        """
        key = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        now = self._clock()
        if (caller := self._known.get(key, now)) is not None:
            token_cached()
            return caller
        if (kept := self._refused.get(key, now)) is not None:
            token_seen(Token.REFUSED)
            _raise_anew(kept)
        if not _TOKEN.fullmatch(token):
            token_seen(Token.REFUSED)
            raise Unauthenticated("The token is not one that Keystone issues.")
        question = self._pending.get(key)
        if question is None:
            question = self._asked(key, token, address)
        try:
            # One who hangs up must not end the question for the others.
            caller = await asyncio.shield(question)
        except Refused as refusal:
            token_seen(Token.REFUSED)
            _raise_anew(refusal)
        except RetryLater:
            token_seen(Token.UNAVAILABLE)
            raise
        token_seen(Token.VALIDATED)
        return caller

    def _asked(self, key: bytes, token: str, address: str) -> asyncio.Task[Caller]:
        """A new question. Raises RetryLater where it has no place."""
        new = not self._good.get(key, self._clock())
        full = len(self._pending) >= PENDING or (
            new and (self._new[address] >= EACH or self._new.total() >= PENDING - RESERVED)
        )
        if full:
            raise RetryLater("Too many new tokens are waiting for Keystone.", delay=2.0)
        if new:
            self._new[address] += 1
        question = self._pending[key] = asyncio.create_task(self._ask(key, token))

        def answered(done: asyncio.Task[Caller]) -> None:
            del self._pending[key]
            if new:
                self._new[address] -= 1
                if not self._new[address]:
                    del self._new[address]
            if not done.cancelled():
                done.exception()  # seen, even where everybody hung up

        question.add_done_callback(answered)
        return question

    async def check(self) -> None:
        """Whether tokens can be validated: Keystone said something of late, or says it now.

        Raises RetryLater where it is silent, or refuses our own user.
        """
        if self._clock() >= self._answered_at + self._cache_seconds:
            await self._show(NO_TOKEN)

    async def _ask(self, key: bytes, token: str) -> Caller:
        info = await self._show(token)
        now = self._clock()
        refusal: Refused
        if info is None or info.expires_at <= now:
            refusal = Unauthenticated("The token is unknown, expired or revoked.")
        elif info.project_id is None:
            refusal = Forbidden("The token is not for a project: ask Keystone for one that is.")
        else:
            caller = Caller(
                user_id=info.user_id,
                user_name=info.user_name,
                project_id=info.project_id,
                project_name=info.project_name or "",
                roles=frozenset(role.lower() for role in info.roles),
                expires_at=info.expires_at,
            )
            self._good.put(key, True, info.expires_at)
            self._known.put(key, caller, min(now + self._cache_seconds, info.expires_at))
            return caller
        self._good.forget(key)
        self._refused.put(key, refusal, now + min(REFUSED_SECONDS, self._cache_seconds))
        raise refusal

    async def _show(self, token: str) -> TokenInfo | None:
        try:
            info = await self._keystone.show_token(token)
        except Refused as refusal_of_ours:
            # It is Moorage that is refused, which says nothing about the token.
            _log.error("may not validate tokens", reason=refusal_of_ours.reason)
            raise RetryLater(
                "Keystone does not let Moorage validate tokens; its operator can mend that.",
                delay=10.0,
            ) from refusal_of_ours
        self._answered_at = self._clock()
        return info


def _raise_anew(refusal: Refused) -> NoReturn:
    """A kept exception would gather a traceback from everyone who raises it."""
    raise type(refusal)(refusal.reason) from None


class _Recent(Generic[_Value]):
    """The most recently used values, each until its time."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._values: OrderedDict[bytes, tuple[_Value, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: bytes, now: float) -> _Value | None:
        found = self._values.get(key)
        if found is None:
            return None
        value, until = found
        if now >= until:
            del self._values[key]
            return None
        self._values.move_to_end(key)
        return value

    def forget(self, key: bytes) -> None:
        self._values.pop(key, None)

    def put(self, key: bytes, value: _Value, until: float) -> None:
        self._values[key] = (value, until)
        self._values.move_to_end(key)
        if len(self._values) > self._entries:
            self._values.popitem(last=False)
