"""What PostgreSQL's errors mean to whoever runs Moorage: wait, or mend the settings.

Facts: PostgreSQL's appendix "Error Codes"; asyncpg names the same classes.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass

import asyncpg
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from moorage.model.errors import MoorageError, Refused, RetryLater

REFUSED = {
    "28P01": "{at} does not let user {user!r} in: its password is wrong.",
    "28000": "{at} does not let user {user!r} in: look at its pg_hba.conf.",
    "3D000": "{at} has no database {database!r}: create it first.",
    "42501": "User {user!r} may not work on the tables in {database!r} of {at}: "
    "make it the database's owner.",
}
_SLOW = ("{at} took too long, and was not waited for.", 1.0)
_BUSY = ("The database is busy with other requests that touch the same rows.", 1.0)
RETRIED = {
    "25006": ("{at} is read-only: it is a standby.", 5.0),
    "25P03": _SLOW,  # idle_in_transaction_session_timeout
    "40001": _BUSY,  # serialization_failure
    "40P01": _BUSY,  # deadlock_detected
    "53100": ("The disk of {at} is full.", 10.0),
    "53300": ("{at} takes no more connections.", 2.0),
    "55P03": _SLOW,  # lock_not_available
    "57014": _SLOW,  # query_canceled: statement_timeout
}
"""The words, and after how many seconds to try again."""
AWAY = {
    "08",  # connection exceptions
    "53",  # insufficient resources
    "57P01",  # admin_shutdown
    "57P02",  # crash_shutdown
    "57P03",  # cannot_connect_now: it is starting or stopping
    "57P05",  # idle_session_timeout
}
"""States, and classes of them, that mean: it is not there, and will be."""


@dataclass(frozen=True, slots=True)
class Server:
    """Whom we speak with, in words without a password."""

    place: str
    user: str
    database: str

    @classmethod
    def of(cls, url: str) -> Server:
        """Of an URL that `make_url` takes. What it leaves out, libpq's defaults fill in."""
        parts = make_url(url)
        host = parts.host or parts.query.get("host") or "this machine"
        port = parts.port or parts.query.get("port") or 5432
        user = parts.username or "this process's"
        return cls(f"{host}:{port}", user, parts.database or user)

    def refuse(self, error: Exception) -> None:
        """Raise what `error` means, if it is about the server and not about our statement."""
        meaning = self._meaning(error)
        if meaning is not None:
            raise meaning from error

    def _meaning(self, error: Exception) -> MoorageError | None:
        state = sqlstate(error)
        if state is not None:
            return self._of_state(state)
        match error:
            case ssl.SSLCertVerificationError():
                return Refused(f"The certificate of {self.at} is not trusted.")
            case asyncpg.ClientConfigurationError():
                return Refused(f"The options in the URL of {self.at} can't be used.")
            case OSError() | TimeoutError() | PoolTimeoutError():
                return self._away()
            case DBAPIError() if error.connection_invalidated:
                return self._away()
            case _:
                return None

    def _of_state(self, state: str) -> MoorageError | None:
        if state in REFUSED:
            words = REFUSED[state]
            return Refused(words.format(at=self.at, user=self.user, database=self.database))
        if state in RETRIED:
            words, delay = RETRIED[state]
            return RetryLater(words.format(at=self.at), delay=delay)
        return self._away() if state[:2] in AWAY or state in AWAY else None

    def _away(self) -> RetryLater:
        return RetryLater(f"{self.at} can't be reached.", delay=2.0)

    @property
    def at(self) -> str:
        return f"PostgreSQL at {self.place}"


def sqlstate(error: BaseException) -> str | None:
    """The five characters by which PostgreSQL says what is wrong."""
    told = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(told, "sqlstate", None)
    return state if isinstance(state, str) else None
