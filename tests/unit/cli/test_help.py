"""Help teaches: every command shows how it is typed, at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import typer

from moorage.cli.failure import Code
from moorage.cli.main import app

HEAVY = ("pydantic", "keystoneauth1", "yaml", "cryptography", "fastapi", "sqlalchemy", "asyncio")


def names(group: typer.Typer, *before: str) -> Iterator[tuple[str, ...]]:
    yield before
    for command in group.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.rstrip("_")
        yield (*before, name)
    for sub in group.registered_groups:
        assert sub.typer_instance is not None
        named = (sub.name,) if isinstance(sub.name, str) else ()  # without: its commands are here
        found = names(sub.typer_instance, *before, *named)
        yield from (words for words in found if words != before)


@pytest.mark.parametrize("words", list(names(app)), ids=" ".join)
def test_every_command_shows_an_example(
    moorage: Callable[..., int], capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert moorage(*words, "--help") == Code.OK
    said = capsys.readouterr().out
    assert "Examples:" in said
    assert " ".join(("$ moorage", *words)) in " ".join(said.split()) or 'eval "$(moorage' in said


def test_the_exit_codes_are_told(
    moorage: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    moorage("--help")
    said = capsys.readouterr().out
    assert all(f"   {code.value}  " in said for code in Code)


def test_help_waits_for_no_import_that_takes_time() -> None:
    look = f"import sys, moorage.cli.main; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
