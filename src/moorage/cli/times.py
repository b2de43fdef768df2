"""Instants as the API writes them (RFC 3339), and as people read them: always in UTC."""

from __future__ import annotations

import datetime


def utc(text: str) -> datetime.datetime:
    """Raises ValueError. What has no offset is taken for UTC, as OpenStack's services mean it."""
    time = datetime.datetime.fromisoformat(text)
    if time.tzinfo is None:
        return time.replace(tzinfo=datetime.UTC)
    return time.astimezone(datetime.UTC)


def readable(text: str | None) -> str | None:
    """`2030-01-31 12:00:05Z`."""
    return f"{utc(text):%Y-%m-%d %H:%M:%SZ}" if text else None


def after(passed: datetime.timedelta) -> str:
    """`+1.2 s`, `+3 min`, `+2 h`, `+5 d`."""
    seconds = passed.total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"+{seconds / size:.0f} {unit}"
    return f"+{seconds:.1f} s"
