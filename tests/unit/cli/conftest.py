"""A cloud to talk to, Keystone included: each answer of its API is set by the test."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from moorage.cli import clusters, main

Answer = tuple[int, object]


@dataclass
class StubCloud:
    """`answers`: for `METHOD /path` of the API, what is answered, one after the other."""

    url: str = ""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    token_status: int = 201

    def will(self, request: str, *answers: Answer) -> None:
        """The last of `answers` is given again and again."""
        self.answers[request] = list(answers)

    def answer(self, method: str, path: str, body: object) -> Answer:
        if path.startswith("/v3") and not path.startswith("/v3/projects"):
            return self._keystone(method, path)
        self.asked.append((f"{method} {path}", body))
        waiting = self.answers.get(f"{method} {path.partition('?')[0]}")
        if not waiting:
            return error(404, f"{method} {path} is not there")
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def _keystone(self, method: str, path: str) -> Answer:
        if method == "GET":
            link = {"rel": "self", "href": f"{self.url}/v3"}
            return 200, {"version": {"id": "v3.14", "status": "stable", "links": [link]}}
        if self.token_status != 201:
            return self.token_status, {"error": {"code": 401, "title": "Unauthorized"}}
        here = {"interface": "public", "region_id": "R", "id": "e"}
        catalog = [
            {
                "type": kind,
                "name": kind,
                "id": kind,
                "endpoints": [{**here, "url": self.url + path}],
            }
            for kind, path in (("container-infra", "/v1"), ("identity", "/v3"))
        ]
        token = {
            "methods": ["password"],
            "expires_at": "2099-01-01T00:00:00.000000Z",
            "issued_at": "2026-01-01T00:00:00.000000Z",
            "user": {"id": "u", "name": "ada", "domain": {"id": "default", "name": "Default"}},
            "project": {"id": "p", "name": "harbour", "domain": {"id": "default"}},
            "catalog": catalog,
            "roles": [],
        }
        return 201, {"token": token}


def error(status: int, detail: str, title: str = "Title") -> Answer:
    """An error as the API writes it."""
    return status, {"errors": [{"status": status, "code": "x", "title": title, "detail": detail}]}


def text(shown: str) -> str:
    """What was printed, to be compared: no blanks at the ends, no empty lines, short rules."""
    lines = re.sub("─+", "─", shown).splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines if line.strip())


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubCloud]:
    stub = StubCloud()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            status, answer = stub.answer(self.command, self.path, body)
            data = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Subject-Token", "token")
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PATCH = do_DELETE = do_PUT = do_GET  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    file = tmp_path / "clouds.yaml"
    auth = {
        "auth_url": f"{stub.url}/v3",
        "username": "ada",
        "password": "hush",
        "project_name": "harbour",
        "user_domain_id": "default",
        "project_domain_id": "default",
    }
    file.write_text(yaml.safe_dump({"clouds": {"moorage": {"auth": auth}}}))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(file))
    for name in ("OS_CLOUD", "OS_AUTH_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(clusters, "POLL_SECONDS", 0.001)
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def moorage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs a command in this process; returns its exit code."""
    monkeypatch.setenv("no_proxy", "")  # `main` adds to these: put back afterwards
    monkeypatch.setenv("NO_PROXY", "")

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["moorage", *words])
        try:
            main.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run
