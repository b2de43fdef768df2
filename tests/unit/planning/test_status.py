"""The verdicts, from every status and every kind of trouble."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import pytest

from moorage.model.cluster import Cluster, ClusterStatus, Health, HealthStatus, Rotation
from moorage.model.errors import Conflict, MoorageError, NoRoom, RetryLater
from moorage.model.node import NodeRef, NodeState, ObservedNode, Role
from moorage.model.plan import Step
from moorage.model.ports import Observed
from moorage.planning.outcomes import Kind, Outcome, Trouble, counted, trouble_of, worst
from moorage.planning.status import (
    FAILED_CAP,
    PROGRESS_CAP,
    Findings,
    Verdict,
    backoff,
    refused,
    settle,
    settle_delete,
)
from tests import made

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
WELL = Health(HealthStatus.HEALTHY)
NODES = {
    name: ObservedNode(NodeRef("o", name), role, NodeState.RUNNING)
    for name, role in (("master-0", Role.MASTER), ("worker-0", Role.WORKER))
}
SEEN = Observed(NODES, health=WELL)
STEP = Step("join", "worker-0")
DONE = Outcome(STEP, 1.0)
RETRY = Outcome(STEP, 1.0, Trouble(Kind.RETRY, "join worker-0: no answer", 2.0))
REFUSED = Outcome(STEP, 1.0, Trouble(Kind.REFUSED, "join worker-0: no room"))
BUG = Outcome(STEP, 1.0, Trouble(Kind.BUG, "internal error in step join worker-0 (turn 1)"))


def cluster(status: str, *, minutes_left: float | None = 10, **fields: Any) -> Cluster:
    """What is going on with it was asked for 3 seconds ago."""
    deadline = None if minutes_left is None else NOW + datetime.timedelta(minutes=minutes_left)
    return made.cluster(
        **{
            "workers": 1,
            "coe": "swarm",
            "status": status,
            "deadline": deadline,
            **fields,
        }
    )


def verdict(of: Cluster, *outcomes: Outcome, **fields: Any) -> Verdict:
    found = Findings(now=NOW, next_look=15.0, seen=SEEN, outcomes=outcomes, elapsed=1.25)
    return settle(of, dataclasses.replace(found, **fields))


@pytest.mark.parametrize(
    ("before", "after", "did"),
    [
        ("CREATE_IN_PROGRESS", "CREATE_COMPLETE", "created"),
        ("CREATE_FAILED", "CREATE_COMPLETE", "created"),
        ("UPDATE_IN_PROGRESS", "UPDATE_COMPLETE", "updated"),
        ("UPDATE_FAILED", "UPDATE_COMPLETE", "updated"),
        ("ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE", "rolled back"),
        ("ROLLBACK_FAILED", "ROLLBACK_COMPLETE", "rolled back"),
    ],
)
@pytest.mark.parametrize(
    ("minutes_left", "taken"), [(59.95, " in 3.0 s"), (-10, " in 4200.0 s"), (None, "")]
)
def test_only_an_empty_plan_completes_and_always(
    before: str, after: str, did: str, minutes_left: float | None, taken: str
) -> None:
    got = verdict(cluster(before, minutes_left=minutes_left, attempts=7))
    assert got.status == after
    assert got.status_reason == f"{did}: 2 nodes, swarm of 1 master and 1 worker{taken}"
    assert (got.attempts, got.due_in, got.health) == (0, 15.0, WELL)


def test_a_steady_cluster_is_left_as_it_is() -> None:
    got = verdict(cluster("UPDATE_COMPLETE", status_reason="updated"))
    assert (got.status, got.status_reason, got.idle) == ("UPDATE_COMPLETE", "updated", True)
    assert got.sentence == "as wanted: 2 nodes, swarm of 1 master and 1 worker"


def test_a_healed_cluster_says_so_once() -> None:
    got = verdict(cluster("CREATE_COMPLETE", attempts=2))
    assert got.status_reason == "healed: 2 nodes, swarm of 1 master and 1 worker"
    assert got.attempts == 0


@pytest.mark.parametrize("before", ["CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS"])
def test_done_steps_are_verified_at_once(before: str) -> None:
    got = verdict(cluster(before), DONE, DONE)
    assert got.status == before
    assert (got.due_in, got.attempts) == (0.0, 1)
    doing = "creating" if before.startswith("C") else "updating"
    assert got.status_reason == got.sentence == f"{doing}: 2 join in 1.2 s"


def test_done_steps_too_late_are_verified_all_the_same() -> None:
    got = verdict(cluster("CREATE_IN_PROGRESS", minutes_left=0), DONE)
    assert (got.status, got.due_in) == ("CREATE_FAILED", 0.0)
    assert got.status_reason == "not done within 60 minutes: creating: join in 1.2 s"


def test_a_failed_cluster_keeps_its_reason_while_it_gets_on() -> None:
    got = verdict(cluster("CREATE_FAILED", minutes_left=-1, status_reason="why"), DONE)
    assert (got.status, got.status_reason, got.due_in) == ("CREATE_FAILED", "why", 0.0)


def test_a_plan_needed_again_waits_and_longer_each_time() -> None:
    waits = [
        verdict(cluster("CREATE_IN_PROGRESS", attempts=n), DONE, again=True).due_in
        for n in range(8)
    ]
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


@pytest.mark.parametrize(
    ("before", "outcome", "after", "reason", "due_in"),
    [
        ("CREATE_IN_PROGRESS", RETRY, "CREATE_IN_PROGRESS", "join worker-0: no answer", 8.0),
        ("CREATE_FAILED", RETRY, "CREATE_FAILED", "join worker-0: no answer", 8.0),
        ("CREATE_COMPLETE", RETRY, "CREATE_COMPLETE", "healing: join worker-0: no answer", 8.0),
        ("UPDATE_IN_PROGRESS", REFUSED, "UPDATE_FAILED", "join worker-0: no room", 300.0),
        ("CREATE_IN_PROGRESS", REFUSED, "CREATE_FAILED", "join worker-0: no room", 300.0),
        ("UPDATE_COMPLETE", REFUSED, "UPDATE_COMPLETE", "healing: join worker-0: no room", 60.0),
        (
            "CREATE_IN_PROGRESS",
            BUG,
            "CREATE_IN_PROGRESS",
            "internal error in step join worker-0 (turn 1)",
            4.0,
        ),
    ],
)
def test_trouble(before: str, outcome: Outcome, after: str, reason: str, due_in: float) -> None:
    got = verdict(cluster(before, attempts=2), outcome)
    assert (got.status, got.status_reason, got.due_in) == (after, reason, due_in)
    assert got.attempts == 3
    assert got.troubled


@pytest.mark.parametrize("verb", ["CREATE", "UPDATE"])
@pytest.mark.parametrize("outcome", [RETRY, BUG])
def test_past_the_deadline_it_failed_with_the_last_reason(verb: str, outcome: Outcome) -> None:
    got = verdict(cluster(f"{verb}_IN_PROGRESS", minutes_left=0, create_timeout=1), outcome)
    assert got.status == f"{verb}_FAILED"
    assert outcome.trouble
    assert got.status_reason == f"not done within 1 minute: {outcome.trouble.reason}"
    assert 0 < got.due_in <= FAILED_CAP


def test_nobody_sleeps_through_a_deadline() -> None:
    got = verdict(cluster("CREATE_IN_PROGRESS", minutes_left=0.05, attempts=9), RETRY)
    assert got.due_in == pytest.approx(3.0)


def test_a_refused_create_tells_what_became_of_its_nodes() -> None:
    gone = verdict(cluster("CREATE_IN_PROGRESS"), REFUSED, undone=True)
    assert gone.status_reason == "join worker-0: no room; what was made for it is deleted"
    assert gone.health == Health()
    going = verdict(cluster("CREATE_IN_PROGRESS"), REFUSED, undone=False)
    assert going.status_reason == "join worker-0: no room; what was made for it is being deleted"
    assert going.due_in == 1.0


def test_only_a_create_is_undone() -> None:
    assert refused(cluster("CREATE_IN_PROGRESS"), [DONE, REFUSED], empty=False)
    assert refused(cluster("CREATE_FAILED"), [REFUSED], empty=True)
    assert not refused(cluster("CREATE_IN_PROGRESS"), [RETRY, BUG], empty=False)
    for status in ("CREATE_COMPLETE", "UPDATE_IN_PROGRESS", "UPDATE_FAILED", "UPDATE_COMPLETE"):
        assert not refused(cluster(status), [REFUSED], empty=True)


def test_a_create_that_came_too_late_keeps_what_its_tenant_may_use() -> None:
    late = cluster("CREATE_FAILED", status_reason="not done within 60 minutes: join worker-9: no")
    assert not refused(late, [REFUSED], empty=False)
    undoing = verdict(cluster("CREATE_IN_PROGRESS"), REFUSED, undone=False).status_reason
    assert refused(cluster("CREATE_FAILED", status_reason=undoing), [REFUSED], empty=False)


def test_health_is_unknown_while_it_is_made_and_where_nothing_was_seen() -> None:
    assert verdict(cluster("CREATE_IN_PROGRESS"), DONE).health == Health()
    assert verdict(cluster("UPDATE_COMPLETE"), RETRY).health == WELL
    blind = verdict(cluster("UPDATE_COMPLETE"), RETRY, seen=None)
    assert blind.health == Health(HealthStatus.UNKNOWN, {"cluster": "join worker-0: no answer"})


@pytest.mark.parametrize("outcome", [RETRY, REFUSED, BUG])
@pytest.mark.parametrize("status", ["DELETE_IN_PROGRESS", "DELETE_FAILED"])
@pytest.mark.parametrize("minutes_left", [10, -10, None])
def test_a_delete_is_never_given_up(
    outcome: Outcome, status: str, minutes_left: float | None
) -> None:
    of = cluster(status, minutes_left=minutes_left)
    got = settle_delete(of, Findings(NOW, 15.0, outcomes=[outcome]))
    assert outcome.trouble
    overdue = minutes_left is not None and minutes_left < 0
    assert got.status == ("DELETE_FAILED" if overdue else status)
    prefix = "not done in time: " if overdue else ""
    assert got.status_reason == prefix + outcome.trouble.reason
    assert got.attempts == 1
    assert 0 < got.due_in <= (FAILED_CAP if got.status == "DELETE_FAILED" else PROGRESS_CAP)


def test_nodes_that_survive_their_delete_are_named() -> None:
    got = settle_delete(
        cluster("DELETE_IN_PROGRESS"), Findings(NOW, 15.0, seen=SEEN, outcomes=[DONE])
    )
    assert got.status_reason == "still there after their delete: master-0, worker-0"


@pytest.mark.parametrize("status", list(ClusterStatus))
@pytest.mark.parametrize("outcomes", [(), (DONE,), (RETRY,), (REFUSED,), (BUG,), (DONE, RETRY)])
@pytest.mark.parametrize("minutes_left", [10, -10, None])
@pytest.mark.parametrize("attempts", [0, 1, 50, 10_000])
def test_everything_falls_due_again_and_only_emptiness_completes(
    status: ClusterStatus,
    outcomes: tuple[Outcome, ...],
    minutes_left: float | None,
    attempts: int,
) -> None:
    of = cluster(status.value, minutes_left=minutes_left, attempts=attempts)
    found = Findings(NOW, 15.0, jitter=0.5, seen=SEEN, outcomes=outcomes)
    got = settle_delete(of, found) if status.deleting else settle(of, found)
    assert 0.0 <= got.due_in <= FAILED_CAP
    assert got.sentence
    assert got.status.value.partition("_")[0] == status.value.partition("_")[0]
    if got.status.value.endswith("_COMPLETE") and not status.value.endswith("_COMPLETE"):
        assert not outcomes
    if got.status.value.endswith("_FAILED"):
        assert got.status_reason or outcomes == (DONE,)


def test_backoff_doubles_up_to_its_cap_with_up_to_a_quarter_less() -> None:
    assert [backoff(1.0, n, 60.0, 0.0) for n in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff(1.0, 3, 60.0, 0.999) == pytest.approx(6.0, abs=0.01)
    assert backoff(1.0, 10**9, 60.0, 0.0) == 60.0


def test_errors_speak_only_where_they_may() -> None:
    assert trouble_of(RetryLater("no answer", delay=3.0), "join", "t1") == Trouble(
        Kind.RETRY, "join: no answer", 3.0
    )
    assert trouble_of(NoRoom("full"), "join", "t1") == Trouble(Kind.REFUSED, "join: full")
    assert trouble_of(Conflict("held"), "join", "t1").kind is Kind.REFUSED
    assert trouble_of(MoorageError("odd"), "join", "t1").kind is Kind.RETRY
    bug = trouble_of(KeyError("password=hunter2"), "join", "t1")
    assert bug == Trouble(Kind.BUG, "internal error in step join (turn t1)")


def test_the_worst_trouble_decides_and_the_rest_is_counted() -> None:
    skipped = Outcome(STEP, skipped=True)
    assert worst([DONE, skipped]) is None
    got = worst([RETRY, DONE, BUG, skipped, REFUSED])
    assert got == Trouble(Kind.REFUSED, "join worker-0: no room (and 2 more)")
    assert worst([RETRY, BUG]) == dataclasses.replace(
        BUG.trouble or Trouble(Kind.BUG, ""),
        reason="internal error in step join worker-0 (turn 1) (and 1 more)",
    )


def test_steps_and_outcomes_print() -> None:
    assert counted([Step("a", "1"), Step("b"), Step("a", "2")]) == "2 a, b"
    assert counted([]) == ""
    assert str(DONE) == "join worker-0 done in 1.0 s"
    assert str(RETRY) == "join worker-0 failed after 1.0 s: join worker-0: no answer"
    assert str(Outcome(STEP, skipped=True)) == "join worker-0 skipped"


@pytest.mark.parametrize(
    ("phase", "next_phase", "said"),
    [
        ("trust", "serve", "updating: every node trusts the new CA beside the old one"),
        ("serve", None, "updating: every node has a certificate of the new CA"),
    ],
)
@pytest.mark.parametrize("status", ["UPDATE_IN_PROGRESS", "UPDATE_FAILED"])
def test_a_ca_goes_a_phase_further_with_an_empty_plan(
    phase: str, next_phase: str | None, said: str, status: str
) -> None:
    got = verdict(cluster(status, rotation=Rotation(phase), status_reason="late"))
    assert (got.rotation, got.status, got.due_in, got.sentence) == (next_phase, status, 0.0, said)
    assert got.status_reason == ("late" if status == "UPDATE_FAILED" else said)


@pytest.mark.parametrize("outcome", [DONE, RETRY, BUG])
def test_a_ca_stays_in_its_phase_while_there_is_something_to_do(outcome: Outcome) -> None:
    of = cluster("UPDATE_IN_PROGRESS", rotation=Rotation.TRUST)
    assert verdict(of, outcome).rotation is Rotation.TRUST
    assert settle_delete(of, Findings(now=NOW, next_look=1.0)).rotation is Rotation.TRUST


def test_what_is_on_hold_is_not_complete_and_says_how_to_go_on() -> None:
    of = cluster("UPDATE_FAILED", status_reason="ensure-node worker-0: no room")
    got = verdict(of, held=["worker-0", "worker-1"])
    assert got.status == "UPDATE_FAILED"
    assert got.status_reason == (
        "ensure-node worker-0: no room; on hold: 2 nodes still as before (worker-0, worker-1); "
        "ask for the upgrade again to go on, or for the former template to go back"
    )
    again = verdict(dataclasses.replace(of, status_reason=got.status_reason), held=["worker-1"])
    assert (again.status_reason or "").count("on hold") == 1
    same = verdict(
        dataclasses.replace(of, status_reason=got.status_reason), held=["worker-0", "worker-1"]
    )
    assert same.idle


def test_another_wish_that_is_done_leaves_what_is_on_hold_failed() -> None:
    of = cluster("UPDATE_IN_PROGRESS", fallback=made.groups(1, 1))
    got = verdict(of, held=["worker-1"])
    assert (got.status, got.back, got.idle) == ("UPDATE_FAILED", False, False)
    assert (got.status_reason or "").startswith("all else is as wanted: ")
    assert verdict(cluster("ROLLBACK_IN_PROGRESS"), held=["worker-1"]).status == "ROLLBACK_FAILED"


@pytest.mark.parametrize("outcome", [REFUSED, RETRY])
def test_a_failed_update_goes_back_where_that_was_asked_for(outcome: Outcome) -> None:
    of = cluster("UPDATE_IN_PROGRESS", minutes_left=-1, fallback=made.groups(1, 1))
    got = verdict(of, outcome)
    assert (got.status, got.back, got.due_in) == ("ROLLBACK_IN_PROGRESS", True, 0.0)
    assert (got.status_reason or "").startswith("going back, for the update failed: ")
    assert not verdict(dataclasses.replace(of, fallback=None), outcome).back


def test_a_rollback_that_fails_does_not_roll_back() -> None:
    got = verdict(cluster("ROLLBACK_IN_PROGRESS", minutes_left=-1), RETRY)
    assert (got.status, got.back) == ("ROLLBACK_FAILED", False)
