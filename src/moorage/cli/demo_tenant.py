"""The demo's tenant: a project and a user with the role member, made through Keystone's API."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

from moorage.cli import clouds
from moorage.cli.clouds import Cloud
from moorage.cli.failure import Code, Failure
from moorage.cli.session import container_infra

PROJECT = "harbour"
USER = "ada"


def cloud_in(file: Path, name: str) -> Cloud:
    """The cloud `name` of this very file, whatever the environment names."""
    return clouds.choose(name, {"OS_CLIENT_CONFIG_FILE": str(file)}, file.parent)


def ensure(file: Path) -> tuple[Cloud, str]:
    """The tenant's cloud in the clouds.yaml `file`, and whether it was made or found.

    Where the password is no longer known, a new one is set.
    """
    from moorage.clients.keystone import Credentials
    from moorage.identity.clouds import save_cloud
    from moorage.identity.tenants import ensure_tenant

    if tenant := _that_works(file):
        return tenant, "found as it was"
    operator = cloud_in(file, clouds.OURS).auth
    admin = Credentials(
        str(operator["auth_url"]),
        str(operator["username"]),
        str(operator["password"]),
        str(operator["project_name"]),
    )
    password = secrets.token_urlsafe(24)
    made = asyncio.run(ensure_tenant(admin, project=PROJECT, user=USER, password=password))
    save_cloud(file, PROJECT, made)
    return cloud_in(file, PROJECT), "made"


def _that_works(file: Path) -> Cloud | None:
    """The tenant's cloud, if it is written down and Keystone accepts it."""
    try:
        tenant = cloud_in(file, PROJECT)
        container_infra(tenant).call("GET", "/clusters")
    except Failure as failure:
        if failure.code in {Code.NOT_FOUND, Code.DENIED}:
            return None
        raise
    return tenant
