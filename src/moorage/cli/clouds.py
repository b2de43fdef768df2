"""Which cloud a command talks to: clouds.yaml and OS_* variables, read as OpenStack's clients do.

https://docs.openstack.org/openstacksdk/latest/user/config/configuration.html says
where clouds.yaml lies and what is in it. One thing is ours: where none is found, the
file that `moorage up` wrote is taken, so that root on the machine itself need set nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moorage.cli.failure import Code, Failure

STATE = Path("/var/lib/moorage")
"""Where `moorage up` keeps its files unless told otherwise."""
OURS = "moorage"
"""The cloud that `moorage up` writes: the operator's own, with the role admin."""
PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class Cloud:
    """Where to sign in and as whom. `auth` are the options of the plugin `auth_type`."""

    name: str
    auth_type: str
    auth: Mapping[str, Any] = field(repr=False)
    verify: bool | str = True
    """Whether to check the server's certificate, or the CA file to check it with."""
    region: str | None = None
    interface: str = PUBLIC
    endpoint: str | None = None
    """Overrides the catalog's container-infra endpoint."""


def files(env: Mapping[str, str], state: Path) -> list[Path]:
    """Where a clouds.yaml may be, the first one first."""
    named = env.get("OS_CLIENT_CONFIG_FILE")
    home = Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [
        *([Path(named)] if named else []),
        Path("clouds.yaml"),
        home / "openstack" / "clouds.yaml",
        Path("/etc/openstack/clouds.yaml"),
        state / "clouds.yaml",
    ]


def choose(name: str | None, env: Mapping[str, str] | None = None, state: Path = STATE) -> Cloud:
    """The cloud `name`, or what the environment names, or the one of `moorage up`.

    Raises Failure where it is not to be found.
    """
    env = os.environ if env is None else env
    state = Path(env.get("MOORAGE_STATE") or state)
    name = name or env.get("OS_CLOUD")
    if not name and env.get("OS_AUTH_URL"):
        return _from_environment(env)
    wanted = name or OURS
    looked = files(env, state)
    known: dict[str, Path] = {}
    for path in looked:
        clouds = _read(path)
        if wanted in clouds:
            return _from_file(wanted, clouds[wanted], path)
        known |= {other: path for other in clouds if other not in known}
    if known:
        listed = ", ".join(f"{other} (in {path})" for other, path in sorted(known.items()))
        raise Failure(
            f"no cloud named `{wanted}`; there is {listed}",
            code=Code.NOT_FOUND,
            mend="name one with --os-cloud NAME or OS_CLOUD=NAME",
        )
    raise Failure(
        f"no cloud named `{wanted}`: none of {', '.join(map(str, looked))} can be read",
        code=Code.NOT_FOUND,
        mend="`moorage up` writes one; elsewhere set OS_CLIENT_CONFIG_FILE=…/clouds.yaml",
    )


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except yaml.YAMLError as wrong:
        raise Failure(f"{path} is not YAML: {wrong}", code=Code.USAGE) from None
    clouds = content.get("clouds") if isinstance(content, dict) else None
    return clouds if isinstance(clouds, dict) else {}


def _from_file(name: str, entry: object, path: Path) -> Cloud:
    auth = entry.get("auth") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(auth, dict):
        raise Failure(f"the cloud `{name}` in {path} has no `auth`", code=Code.USAGE)
    return Cloud(
        name=name,
        auth_type=entry.get("auth_type", "password"),
        auth=auth,
        verify=(entry.get("cacert") or True) if entry.get("verify", True) else False,
        region=entry.get("region_name"),
        interface=entry.get("interface", PUBLIC),
        endpoint=entry.get("container_infra_endpoint_override"),
    )


NOT_AUTH = frozenset(
    {"cloud", "auth_type", "cacert", "insecure", "region_name", "interface", "client_config_file"}
)


def _from_environment(env: Mapping[str, str]) -> Cloud:
    set_ = {k.removeprefix("OS_").lower(): v for k, v in env.items() if k.startswith("OS_") and v}
    insecure = set_.get("insecure", "").lower() in {"1", "true", "yes"}
    return Cloud(
        name="envvars",
        auth_type=set_.get("auth_type", "password"),
        auth={name: value for name, value in set_.items() if name not in NOT_AUTH},
        verify=False if insecure else set_.get("cacert", True),
        region=set_.get("region_name"),
        interface=set_.get("interface", PUBLIC),
        endpoint=set_.get("container_infra_endpoint_override"),
    )
