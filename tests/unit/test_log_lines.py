from __future__ import annotations

import json
from pathlib import Path

import pytest

from moorage.log_lines import as_line


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
