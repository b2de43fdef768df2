"""The story of a cluster: every step under its turn's sentence, every line where it began."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from moorage.cli.failure import Code
from moorage.cli.story import in_order, lines

from .conftest import StubCloud, error

Run = Callable[..., int]


def event(number: int, kind: str, what: str, *, at: str | None = None, **more: Any) -> Any:
    """As the API has it; `at` is the time of the day."""
    plain = {"turn": None, "seconds": None, "cause": None, "ok": True}
    time = f"2030-01-01T{at or f'12:00:{number:02}.250'}+00:00"
    return {"id": number, "kind": kind, "what": what, "at": time, **plain, **more}


STORY = [
    event(1, "request", "create: 3 tiny", at="12:00:00.250", cause="asked by alice"),
    event(2, "step", "ensure-node master-0", at="12:00:00.410", turn="a", seconds=0.5),
    event(3, "step", "ensure-node worker-0", at="12:00:00.411", turn="a", seconds=0.702),
    event(
        5, "step", "join worker-0", at="12:00:02", turn="a", seconds=1, ok=False, cause="silence"
    ),
    event(4, "request", "resize: default-worker from 2 to 0", at="12:00:01", cause="asked by bob"),
    event(6, "turn", "creating: silence; again in 1.0 s", at="12:00:03.001", turn="a", seconds=2.7)
    | {"ok": False},
    event(7, "step", "delete-node worker-0", at="23:59:59.900", turn="b", seconds=0.4),
    event(8, "turn", "creating: 1 delete-node", at="00:00:00.400", turn="b", seconds=0.6)
    | {"at": "2030-01-02T00:00:00.400+00:00"},
    event(9, "turn", "created: 1 node", turn="c", seconds=0.02)
    | {"at": "2030-01-02T02:00:00.500+02:00"},
]
TOLD = """\
2030-01-01, times in UTC
12:00:00Z      +0.0 s  ▶ create: 3 tiny  (asked by alice)
12:00:00Z      +0.1 s  ● creating: silence; again in 1.0 s
12:00:00Z      +0.2 s  ├ ensure-node master-0  0.50 s
12:00:00Z      +0.2 s  ├ ensure-node worker-0  0.70 s
12:00:01Z      +0.8 s  ▶ resize: default-worker from 2 to 0  (asked by bob)
12:00:02Z      +1.8 s  └ join worker-0  1.00 s  failed: silence
23:59:59Z       +12 h  ● creating: 1 delete-node
23:59:59Z       +12 h  └ delete-node worker-0  0.40 s
2030-01-02, times in UTC
00:00:00Z       +12 h  ● created: 1 node
"""


def test_a_story_is_told_from_the_first_request_to_now(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.will("GET /v1/clusters/fleet/events", (200, {"events": STORY}))
    assert moorage("cluster", "explain", "fleet") == Code.OK
    assert capsys.readouterr().out == TOLD


def test_what_a_server_says_is_letters_and_nothing_else(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or whoever names a label writes into the terminal of whoever asks for the story."""
    evil = "\x1b]0;owned\x07\x1b[2J\n2030-01-01 \u202eenil a"
    story = [
        event(1, "request", f"create: {evil}", cause=f"asked by {evil}"),
        event(2, "step", f"join {evil}", turn="a", seconds=1, ok=False, cause=evil),
        event(3, "turn", f"creating: {evil}", turn="a", seconds=1.0),
    ]
    cloud.will("GET /v1/clusters/fleet/events", (200, {"events": story}))
    cloud.will("GET /v1/clusters/fleet", (200, {"uuid": "u", "name": evil, "labels": {evil: evil}}))
    cloud.will("GET /v1/clusters", (200, {"clusters": [{"uuid": "u", "name": evil}]}))
    cloud.will("GET /v1/clusters/none", error(404, f"no {evil}"))
    for words, code in (
        (("cluster", "explain", "fleet"), Code.OK),
        (("cluster", "explain", "fleet", "-o", "json"), Code.OK),
        (("cluster", "show", "fleet"), Code.OK),
        (("cluster", "show", "fleet", "-o", "json"), Code.OK),
        (("cluster", "list"), Code.OK),
        (("cluster", "show", "none"), Code.NOT_FOUND),
    ):
        assert moorage(*words) == code
        shown = capsys.readouterr()
        told = shown.out + shown.err
        assert "owned" in told, words
        assert all(line.isprintable() for line in told.split("\n")), words
        assert not any(line.startswith("2030-01-01 ") for line in told.split("\n")), words


def told(events: Sequence[Any]) -> list[str]:
    return [line.plain[23:] for line in lines(in_order(events))][1:]


def test_a_step_is_under_its_own_turn_whatever_clocks_say() -> None:
    """The second turn's process has a clock that is a second behind; one sentence is too late."""
    events = [
        event(1, "step", "a", at="12:00:02", turn="one", seconds=0.1),
        event(2, "step", "b", at="12:00:04", turn="one", seconds=0.1),
        event(3, "turn", "one", at="12:00:04.100", turn="one", seconds=1.0),
        event(4, "step", "c", at="12:00:03.500", turn="two", seconds=0.1),
        event(5, "turn", "two", at="12:00:03.600", turn="two", seconds=0.2),
    ]
    assert in_order(events)[0].at.second == 2, "no turn begins after its first step"
    assert told(events) == ["● one", "├ a  0.10 s", "└ b  0.10 s", "● two", "└ c  0.10 s"]


def test_a_turn_whose_sentence_is_not_there() -> None:
    assert told([event(1, "step", "a", turn="one", seconds=2)]) == ["└ a  2.00 s"]


def test_of_nothing(cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.will("GET /v1/clusters/fleet/events", (200, {"events": []}))
    assert moorage("cluster", "explain", "fleet") == Code.OK
    assert capsys.readouterr().out == ""


def test_the_newest_of_a_long_story(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    long = [event(n, "turn", f"turn {n}.", at=f"12:{n // 60:02}:{n % 60:02}") for n in range(530)]
    pages = [(200, {"events": long[:500]}), (200, {"events": long[500:]})]
    cloud.will("GET /v1/clusters/fleet/events", *pages)
    assert moorage("cluster", "explain", "fleet") == Code.OK
    assert cloud.asked[1][0] == "GET /v1/clusters/fleet/events?limit=500&marker=499"
    said = capsys.readouterr().out
    assert "(the newest 60 of 530 entries; --all shows them all)" in said
    assert "12:07:50Z      +8 min  ● turn 470." in said, "how long after the very first one"
    assert "turn 469." not in said
    cloud.will("GET /v1/clusters/fleet/events", *pages)
    assert moorage("cluster", "explain", "fleet", "--all", "-o", "json") == Code.OK
    assert json.loads(capsys.readouterr().out) == long


def test_no_turn_is_cut_in_two(
    cloud: StubCloud, moorage: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [event(n, "step", f"step {n}.", at=f"12:01:{n:02}", turn="t") for n in range(10, 59)]
    wishes = [event(n, "request", "wish", at=f"12:01:57.{n}") for n in range(100, 120)]
    turn = event(99, "turn", "whole", at="12:02:00", turn="t", seconds=55)
    before = event(1, "turn", "before", at="12:00:00", turn="s", seconds=1)
    cloud.will("GET /v1/clusters/fleet/events", (200, {"events": [before, *steps, *wishes, turn]}))
    assert moorage("cluster", "explain", "fleet") == Code.OK
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "(the newest 70 of 71 entries; --all shows them all)"
    assert said[2].endswith("● whole")
    assert said[3].endswith("├ step 10.")
    assert said[-1].endswith("└ step 58.")
