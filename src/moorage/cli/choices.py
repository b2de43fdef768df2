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
DATABASES = "postgresql://user:password@host/name or sqlite:////var/lib/moorage/moorage.db"


def state_of(given: Path | None) -> Path:
    """The state directory: absolute, so that it names the same place everywhere."""
    return (given or Path(os.environ.get("MOORAGE_STATE") or STATE)).absolute()


def load(state: Path, options: Mapping[str, Any] | None = None) -> Settings:
    """The settings of the install in `state`. Raises Failure for a value that can't be."""
    from pydantic import ValidationError

    from moorage.settings import Settings

    given = {name: value for name, value in (options or {}).items() if value is not None}
    from_environment = {name for name in Settings.model_fields if _variable(name) in os.environ}
    kept = {name: v for name, v in _kept(Home(state)).items() if name not in from_environment}
    try:
        settings = Settings(**(kept | given | {"state": state}))
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
    _refuse_unknown_database(settings.database)
    return settings


def keep(settings: Settings) -> None:
    """Keep what is set (the secrets too: the file is its owner's only)."""
    value = settings.model_dump(mode="json", exclude={"state"}, exclude_unset=True)
    for name in SECRETS & value.keys():
        secret = getattr(settings, name)
        value[name] = secret and secret.get_secret_value()
    write_private(Home(settings.state).settings, json.dumps(value, indent=1).encode())


def environment() -> dict[str, str]:
    """For a server that is to have what is kept: that was chosen over what variables say."""
    from moorage.settings import Settings

    variables = {_variable(name) for name in Settings.model_fields}
    return {name: value for name, value in os.environ.items() if name.upper() not in variables}


def _variable(setting: str) -> str:
    return f"MOORAGE_{setting}".upper()


def _refuse_unknown_database(url: str) -> None:
    """Raises Failure, which shows nothing of an URL: wherever a password may stand, one may be."""
    kind, sign, rest = url.partition("://")
    match kind.partition("+")[0]:
        case "postgresql" if sign and rest:
            return
        case "sqlite" if rest.startswith("//"):
            return
        case "sqlite" if sign:
            wrong = "the path of a SQLite file has to begin with `/`, after three others"
        case _:
            wrong = "its URL is of no kind that is known"
    raise Failure(f"the database: {wrong}", code=Code.USAGE, mend=f"write {DATABASES}")


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
