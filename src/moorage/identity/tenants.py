"""Making a tenant: a project, a user, and the user's role in it, through Keystone's own API."""

from __future__ import annotations

from dataclasses import replace

from moorage.clients.keystone import Credentials, KeystoneClient


async def ensure_tenant(
    admin: Credentials, *, project: str, user: str, password: str, role: str = "member"
) -> Credentials:
    """Make what is missing of it, set the password, and return the user's credentials.

    Raises Refused or RetryLater in Keystone's words. Safe to repeat.
    """
    async with KeystoneClient(admin) as keystone:
        project_id = await keystone.ensure_project(project)
        user_id = await keystone.ensure_user(user, password)
        await keystone.grant(user_id, project_id, role)
    return replace(admin, username=user, password=password, project_name=project)
