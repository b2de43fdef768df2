"""clouds.yaml, by which OpenStack's clients find a cloud and sign in to it.

https://docs.openstack.org/openstacksdk/latest/user/config/configuration.html
"""

from __future__ import annotations

from pathlib import Path

import yaml

from moorage.clients.keystone import Credentials
from moorage.identity.home import REGION, write_private


def save_cloud(path: Path, name: str, credentials: Credentials, *, region: str = REGION) -> None:
    """Put the cloud `name` into the file, readable by its owner only; the others stay."""
    content = yaml.safe_load(path.read_text()) if path.exists() else None
    clouds = dict((content or {}).get("clouds") or {})
    clouds[name] = {
        "auth": {
            "auth_url": credentials.auth_url,
            "username": credentials.username,
            "password": credentials.password,
            "project_name": credentials.project_name,
            "user_domain_id": credentials.domain_id,
            "project_domain_id": credentials.domain_id,
        },
        "region_name": region,
        "identity_api_version": 3,
    }
    write_private(path, yaml.safe_dump({"clouds": clouds}, sort_keys=False))
