"""Nothing is said of a cluster that nobody has looked at."""

from __future__ import annotations

import datetime

import pytest

from moorage.model.cluster import Health, HealthStatus
from moorage.planning.status import FAILED_CAP
from moorage.planning.truth import CLOCKS, TURN_SECONDS, as_known, paced
from tests import made

SEEN_AT = datetime.datetime(2030, 1, 1, 12, 30, 5, tzinfo=datetime.UTC)
WELL = Health(HealthStatus.HEALTHY)


@pytest.mark.parametrize(
    ("status", "attempts", "known_for"),
    [
        ("CREATE_COMPLETE", 0, 40 + TURN_SECONDS),
        ("CREATE_COMPLETE", 2, FAILED_CAP + TURN_SECONDS),
        ("UPDATE_FAILED", 0, FAILED_CAP + TURN_SECONDS),
    ],
)
def test_its_health_is_known_as_long_as_its_conductor_may_leave_it(
    status: str, attempts: int, known_for: float
) -> None:
    cluster = made.cluster(status=status, attempts=attempts, health=WELL, seen_at=SEEN_AT)

    def shown(seconds: float) -> Health:
        return as_known(cluster, SEEN_AT + datetime.timedelta(seconds=seconds), 40).health

    assert shown(known_for) == WELL
    assert shown(known_for + 1) == Health(
        HealthStatus.UNKNOWN,
        {"cluster": "not looked at since 2030-01-01 12:30:05 UTC, when it was HEALTHY"},
    )


def test_what_was_never_seen_or_is_being_deleted_claims_nothing() -> None:
    later = SEEN_AT + datetime.timedelta(days=1)
    fresh = made.cluster(status="CREATE_IN_PROGRESS")
    assert as_known(fresh, later, 40) is fresh
    going = made.cluster(status="DELETE_IN_PROGRESS", seen_at=SEEN_AT)
    assert as_known(going, later, 40) is going


@pytest.mark.parametrize("verb", ["CREATE", "UPDATE", "DELETE", "ROLLBACK"])
def test_what_is_in_progress_long_after_its_deadline_has_nobody_who_works_on_it(verb: str) -> None:
    cluster = made.cluster(
        status=f"{verb}_IN_PROGRESS", status_reason="joining", deadline=SEEN_AT, seen_at=None
    )
    grace = datetime.timedelta(seconds=TURN_SECONDS)
    assert as_known(cluster, SEEN_AT + grace / 2, 40) is cluster, "its conductor may be at it"
    shown = as_known(cluster, SEEN_AT + grace, 40)
    assert shown.status == f"{verb}_FAILED"
    assert shown.status_reason == (
        "not done in time, and nobody works on it: no conductor runs that could. "
        "It goes on when one does. Last said: joining"
    )


def test_very_many_clusters_are_looked_at_less_often_and_known_for_longer() -> None:
    longest = [paced(40.0, many).longest for many in (1, 600, 1_500, 10_000)]
    assert longest == pytest.approx([40.0, 40.0, 100.0, 666.7], rel=1e-3)


def test_why_nobody_looks_is_said_where_it_is_known() -> None:
    why = "its machine a has had no conductor since 2030-01-01 12:31:00 UTC"
    cluster = made.cluster(
        status="CREATE_COMPLETE",
        health=Health(HealthStatus.UNKNOWN, {"cluster": why}),
        seen_at=SEEN_AT,
    )
    shown = as_known(cluster, SEEN_AT + datetime.timedelta(days=1), 40).health
    assert shown.reasons == {"cluster": f"not looked at since 2030-01-01 12:30:05 UTC: {why}"}


def test_what_was_seen_in_the_future_is_not_known() -> None:
    """The clock was set back, and nobody can say how long ago that was."""
    cluster = made.cluster(status="CREATE_COMPLETE", health=WELL, seen_at=SEEN_AT)

    def shown(ahead: float) -> Health:
        return as_known(cluster, SEEN_AT - datetime.timedelta(seconds=ahead), 40).health

    assert shown(CLOCKS) == WELL
    assert shown(CLOCKS + 1) == Health(
        HealthStatus.UNKNOWN,
        {
            "cluster": "not looked at since the clock was set back, from 2030-01-01 12:30:05 UTC "
            "or later, when it was HEALTHY"
        },
    )
