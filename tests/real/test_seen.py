"""A server as its operators see it: metrics, readiness, its log, and how it stops."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.real.install import Install

pytestmark = pytest.mark.real


def get(port: int, path: str) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def names(page: str) -> set[str]:
    return {s.name for family in text_string_to_metric_families(page) for s in family.samples}


def test_a_server_seen_from_outside(install: Install) -> None:
    install.down()
    install.variables |= {"MOORAGE_FAKES": "1", "MOORAGE_PROVIDER": "fake"}
    install.variables |= {"MOORAGE_LOG_MIB": "0.01", "MOORAGE_RECEIVE_SECONDS": "1"}
    install.up()
    status, page = get(install.metrics_port, "/metrics")
    assert status == 200
    assert {"moorage_store_up", "moorage_turns_total", "process_open_fds"} <= names(page)
    assert get(install.port, "/metrics")[0] == 401
    for port in (install.port, install.metrics_port):
        status, body = get(port, "/readyz")
        assert status == 200, body
        parts = {part["name"]: part["ok"] for part in json.loads(body)["parts"]}
        assert parts == {"process": True, "store": True, "identity": True, "conductor": True}

    with socket.create_connection(("127.0.0.1", install.port)) as slow:
        slow.sendall(b"GET / HT")
        tenant = install.tenant("seen")
        template = tenant.make_template("fake", coe="fake")
        uuid = tenant.create("one", template=template)
        tenant.until_complete(uuid)
        slow.settimeout(10)
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
    deadline = time.monotonic() + 10
    counted = 'moorage_clusters{coe="fake",health="HEALTHY",status="CREATE_COMPLETE"} 1.0'
    while counted not in (page := get(install.metrics_port, "/metrics")[1]):
        assert time.monotonic() < deadline, page
        time.sleep(0.2)
    assert uuid not in page
    assert 'verb="ensure-node"' in page

    for _ in range(150):
        tenant.ask("GET", "/clusters/none")
    log = Path(install.state / "log" / "moorage.log")
    assert log.stat().st_size <= 12_000
    assert log.with_name("moorage.log.1").stat().st_size <= 12_000
    pid = install.server_pid()
    log.rename(log.with_name("moved"))
    os.kill(pid, signal.SIGHUP)
    deadline = time.monotonic() + 5
    while not log.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    tenant.ask("GET", "/clusters/none")
    while '"status":404' not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)

    began = time.monotonic()
    install.down()
    assert time.monotonic() - began < 10
    with closing(sqlite3.connect(install.state / "moorage.db")) as database:
        assert database.execute("SELECT lease_until FROM clusters").fetchall() == [(None,)]
