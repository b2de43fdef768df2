from __future__ import annotations

import json
import os
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
