"""What can go wrong, as types that say what to do next.

Two kinds reach a tenant: `RetryLater` (the conductor tries again, by itself) and
`Refused` (nobody tries again until the request changes). Everything else that is
raised is a bug and is logged with its traceback.
"""

from __future__ import annotations


class MoorageError(Exception):
    """Base of the errors whose `reason` may be shown to a tenant.

    A `reason` is one sentence: what is wrong, with which value, what to do.
    It never holds a key, a token or a password.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RetryLater(MoorageError):
    """It did not work now and may work in `delay` seconds."""

    def __init__(self, reason: str, *, delay: float = 1.0) -> None:
        super().__init__(reason)
        self.delay = delay


class Refused(MoorageError):
    """It will not work as asked."""


class Invalid(Refused):
    """A value breaks a rule; `field` names it as the client wrote it."""

    def __init__(self, reason: str, *, field: str = "") -> None:
        super().__init__(reason)
        self.field = field


class Unauthenticated(Refused):
    """No token, or one that is forged, expired or revoked."""


class Forbidden(Refused):
    """The caller is known and its role does not allow this."""


class NotFound(Refused):
    """No such object among those the caller may see."""


class Conflict(Refused):
    """The object is in a state, or in use, that forbids this."""


class QuotaExceeded(Forbidden):
    """The project's quota does not hold what was asked."""


class NoRoom(Refused):
    """The machines behind a provider have no memory, address or disk left for it."""
