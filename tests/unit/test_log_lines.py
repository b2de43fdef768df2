from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moorage.log_lines import Lines, as_line


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("two\nlines", "two\nlines"),
        ("caf\udce9", "caf\udce9"),
        (Path("/etc"), repr(Path("/etc"))),
        (float("inf"), None),
    ],
)
def test_an_event_is_one_line_of_json_whatever_is_in_it(value: object, read: object) -> None:
    line = as_line({"event": "e", "value": value}, repr)
    assert b"\n" not in line
    assert json.loads(line) == {"event": "e", "value": read}


def test_a_full_disk_takes_nobody_down_who_logs() -> None:
    """/dev/full answers every write with ENOSPC."""
    full = os.open("/dev/full", os.O_WRONLY)
    reader, writer = os.pipe()
    try:
        lines = Lines(full)
        assert lines.write(b"lost\n") == 5
        lines.write(b"lost too\n")
        os.dup2(writer, full)  # the disk has room again
        lines.write(b'{"event": "kept"}\n')
        first, second = os.read(reader, 4096).splitlines()
        assert json.loads(first)["count"] == 2
        assert json.loads(second) == {"event": "kept"}
        lines.write(b"more\n")
        assert os.read(reader, 4096) == b"more\n"
    finally:
        for descriptor in (full, reader, writer):
            os.close(descriptor)


SPEAKER = """
import os, sys
from pathlib import Path
import logging, structlog
from moorage import log_lines
path = Path(sys.argv[1])
lines = log_lines.configure(path, 2000)
log = structlog.get_logger()
for number in range(100):
    log.info("line", number=number)
print("from the interpreter", file=sys.stderr, flush=True)
path.rename(path.with_name("moved"))
lines.reopen()
log.info("after")
logging.getLogger("library").warning("of a library: %s", "x")
"""


def speak(script: str, path: Path) -> None:
    with path.open("ab") as file:
        argv = [sys.executable, "-c", script, str(path)]
        subprocess.run(argv, stdout=file, stderr=file, check=True)


def test_a_file_is_set_aside_when_it_is_large_and_opened_again(tmp_path: Path) -> None:
    """Two files at the most, both bounded, and no line lost on the way from one to the other."""
    path = tmp_path / "moorage.log"
    speak(SPEAKER, path)
    assert {file.name for file in tmp_path.iterdir()} == {"moorage.log", "moorage.log.1", "moved"}
    assert (tmp_path / "moorage.log.1").stat().st_size <= 2000
    assert (tmp_path / "moved").stat().st_size <= 2100
    older = [
        json.loads(line)["number"]
        for name in ("moorage.log.1", "moved")
        for line in (tmp_path / name).read_text().splitlines()
        if line.startswith("{")
    ]
    assert older == list(range(older[0], 100))
    assert "from the interpreter" in (tmp_path / "moved").read_text()
    after, library = map(json.loads, path.read_text().splitlines())
    assert after["event"] == "after"
    assert (library["event"], library["logger"]) == ("of a library: x", "library")
    assert path.stat().st_mode & 0o777 == 0o600


CLOSED = """
import os, sys
os.close(2)
from moorage import log_lines
import structlog
log_lines.configure()
database = open(sys.argv[1] + ".db", "wb")
assert database.fileno() != 2
structlog.get_logger().info("nobody hears it")
"""


def test_a_closed_stderr_is_no_database(tmp_path: Path) -> None:
    """The next file that is opened would get its number, and every line of the log."""
    speak(CLOSED, tmp_path / "log")
    assert (tmp_path / "log.db").read_bytes() == b""


PIPE = """
import os
import subprocess
import sys
from moorage import log_lines
import structlog
reader, writer = os.pipe()
os.dup2(writer, 2); os.close(writer); os.close(reader)
log_lines.configure()
for _ in range(3):
    structlog.get_logger().info("nobody reads it")
from moorage.metrics.registry import LOG_LINES_LOST
assert LOG_LINES_LOST._value.get() == 3
"""


def test_a_supervisor_that_is_gone_fails_nobody(tmp_path: Path) -> None:
    speak(PIPE, tmp_path / "log")
