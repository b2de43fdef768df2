"""What `moorage up` is told and keeps: options, then `MOORAGE_*`, then what was said last time."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moorage.cli.clouds import STATE
from moorage.cli.daemon import Home
from moorage.cli.failure import Code, Failure
from moorage.cli.files import write_private

if TYPE_CHECKING:
    from moorage.settings import Settings

SECRETS = {"keystone_password", "database_url"}
"""Settings that no message shows."""


def state_of(given: Path | None) -> Path:
    """The state directory: absolute, so that it names the same place everywhere."""
    return (given or Path(os.environ.get("MOORAGE_STATE") or STATE)).absolute()


def load(state: Path, options: Mapping[str, Any] | None = None) -> Settings:
    """The settings of the install in `state`. Raises Failure for a value that can't be."""
    from pydantic import ValidationError

    from moorage.settings import Settings

    given = {name: value for name, value in (options or {}).items() if value is not None}
    from_environment = {
        name for name in Settings.model_fields if f"MOORAGE_{name}".upper() in os.environ
    }
    kept = {name: v for name, v in _kept(Home(state)).items() if name not in from_environment}
    try:
        return Settings(**(kept | given | {"state": state}))
    except ValidationError as wrong:
        error = wrong.errors()[0]
        name = ".".join(map(str, error["loc"])).replace("_", "-")
        raise Failure(
            f"{name}: {error['msg']} (it is {error.get('input')!r})"
            if error["loc"][0] not in SECRETS
            else f"{name}: {error['msg']}",
            code=Code.USAGE,
            mend="moorage up --help",
        ) from None


def keep(settings: Settings) -> None:
    """Keep what is set (the secrets too: the file is its owner's only)."""
    value = settings.model_dump(mode="json", exclude={"state"}, exclude_unset=True)
    for name in SECRETS & value.keys():
        secret = getattr(settings, name)
        value[name] = secret and secret.get_secret_value()
    write_private(Home(settings.state).settings, json.dumps(value, indent=1).encode())


def _kept(home: Home) -> dict[str, Any]:
    try:
        value = json.loads(home.settings.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except PermissionError:
        raise Failure(
            f"{home.settings} is not yours to read", code=Code.DENIED, mend="run it as root"
        ) from None
    except ValueError as wrong:
        raise Failure(
            f"{home.settings} is damaged: {wrong}", mend="remove it, and say the options again"
        ) from None
    return value if isinstance(value, dict) else {}
