"""The one server of a state directory: one at most, never mistaken, always stopped."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from moorage.cli import daemon
from moorage.cli.daemon import Home, Process, await_ready, held, last_words, running, stop
from moorage.cli.failure import Code, Failure

HOLDER = """
import pathlib, signal, sys
from moorage.cli.daemon import Home, held
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv else lambda *_: sys.exit())
with held(Home(pathlib.Path(sys.argv[1]))):
    print("held", flush=True)
    while True:
        signal.pause()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "state")


def holder(home: Home, *words: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home.state), *words], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


@pytest.fixture
def server(home: Home) -> Iterator[subprocess.Popen[str]]:
    child = holder(home)
    yield child
    child.kill()
    child.communicate()


def test_there_is_one_at_most(home: Home, server: subprocess.Popen[str]) -> None:
    there = running(home)
    assert there is not None
    assert there.pid == server.pid
    with pytest.raises(Failure, match="up already"), held(home):
        raise AssertionError
    assert running(home) == there, "the one that was refused took nothing away"


def test_an_api_may_run_beside_the_conductor(home: Home, server: subprocess.Popen[str]) -> None:
    beside = Home(home.state, api=True)
    with held(beside):
        assert running(beside) == Process.current()
        assert running(home) != Process.current()
        assert beside.log != home.log
    assert running(beside) is None
    assert running(home) is not None


def test_it_stops_by_itself_when_asked(home: Home, server: subprocess.Popen[str]) -> None:
    there = running(home)
    assert there is not None
    assert stop(there, seconds=10)
    server.wait(10)
    assert running(home) is None
    assert not home.pidfile.exists()


def test_one_that_does_not_listen_is_killed(home: Home) -> None:
    child = holder(home, "deaf")
    try:
        there = running(home)
        assert there is not None
        assert not stop(there, seconds=0.05)
    finally:
        child.kill()
        child.communicate()
    assert running(home) is None, "its pidfile is left, and tells of nobody"
    with held(home):
        assert running(home) == Process.current()


def test_another_process_with_its_number_is_left_alone(home: Home) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        home.prepare()
        stranger = Process(other.pid, 1, daemon.BOOT.read_text().strip())
        home.pidfile.write_text(json.dumps(asdict(stranger)))
        assert running(home) is None
        assert stop(stranger, seconds=0)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "7"])
def test_a_pidfile_that_was_cut_short(home: Home, text: str) -> None:
    home.prepare()
    home.pidfile.write_text(text)
    assert running(home) is None


def test_from_before_the_last_boot_nobody_lives(home: Home) -> None:
    me = Process.current()
    assert me.alive()
    assert not Process(me.pid, me.started, "another-boot").alive()


def test_what_it_said_last(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_words(log) == "it said nothing"
    log.write_text('{"event": "starts"}\n{"event": "The port is taken."}\n')
    assert last_words(log) == "The port is taken."
    log.write_text('{"event": "starts"}\nmoorage: no Keystone\n  see there\n')
    assert last_words(log) == "no Keystone"
    assert last_words(log, log.stat().st_size) == "it said nothing"


def test_waiting_for_one_that_ends(home: Home) -> None:
    home.prepare()
    child = subprocess.Popen(["false"])
    with pytest.raises(Failure, match="code 1 before it was ready"):
        await_ready(child, home, ("127.0.0.1", 1), seconds=30, tell=lambda _: None)


def test_waiting_until_it_is_ready(home: Home) -> None:
    home.prepare()
    answers = iter([503, 503, 200])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(next(answers))
            self.end_headers()
            self.wfile.write(b"Keystone starts")

        def log_message(self, format: str, *args: object) -> None:
            return

    web = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=web.serve_forever, args=(0.01,))
    thread.start()
    child = subprocess.Popen(["sleep", "60"])
    told: list[str] = []
    try:
        await_ready(child, home, ("127.0.0.1", web.server_port), seconds=30, tell=told.append)
        assert told == ["Keystone starts", "Keystone starts"]
    finally:
        child.kill()
        child.wait()
        web.shutdown()
        web.server_close()
        thread.join()


def test_waiting_too_long(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.prepare()
    child = subprocess.Popen(["sleep", "60"])
    try:
        with pytest.raises(Failure) as raised:
            await_ready(child, home, ("127.0.0.1", 1), seconds=0, tell=lambda _: None)
        assert raised.value.code is Code.TIMED_OUT
    finally:
        child.kill()
        child.wait()


def test_only_its_owner_reads_what_is_secret(home: Home) -> None:
    with held(home):
        assert home.pidfile.stat().st_mode & 0o077 == 0
    assert home.state.stat().st_mode & 0o077 == 0o011, "a node's root passes through it"
    assert home.log.parent.stat().st_mode & 0o077 == 0
    assert [path.name for path in home.state.iterdir()] == ["log"]
