"""Make the embedded Keystone's application, and its first users, roles and endpoints.

Runs in Keystone's own process only: importing this imports Keystone.

It may be killed at any point and runs again from the start of what is missing:
- the schema: SQLite's `user_version` stays 0 until the migrations are through. A
  database at 0 was never served, holds nobody's data, and is made anew (a migration
  that is killed half-way can't be continued);
- the rest: every act looks first, and `KeystoneHome.bootstrapped` is written at the
  end. It holds a digest of all that went in, so that another public URL, a new
  password file or another version of Keystone each bring the bootstrap round again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import sqlite3
import sys
import time
import uuid
from typing import Any

from keystone.cmd.bootstrap import Bootstrapper
from keystone.common import driver_hints, fernet_utils, provider_api
from keystone.common.sql import upgrades
from keystone.credential.providers import fernet as credential_fernet
from keystone.exception import Conflict, UserNotFound
from keystone.server.flask.core import initialize_application

from moorage.identity import bounded_cache
from moorage.identity.home import (
    ADMIN,
    PUBLISHER,
    REGION,
    SERVICE_PROJECT,
    SERVICE_USER,
    KeystoneHome,
)

_PROVIDERS: Any = provider_api.ProviderAPIs


def application(home: KeystoneHome, *, identity_url: str, container_infra_url: str) -> Any:
    """The WSGI application, ready to be served, of a Keystone that is whole.

    Both URLs are those that clients elsewhere use; the catalogue shows them.
    """
    home.prepare()
    # oslo.config reads sys.argv; an empty directory keeps it from the one that a
    # Keystone of the machine's own may have in /etc.
    sys.argv[1:] = ["--config-dir", str(home.root / "conf.d")]
    bounded_cache.register()
    wanted = _digest(home, identity_url, container_infra_url)
    due = (
        not _is_whole(home)
        or not home.bootstrapped.exists()
        or home.bootstrapped.read_text() != wanted
    )

    def before_backends() -> None:
        if due:
            _make_keys(home)
            _make_schema(home)

    served = initialize_application(
        "public", post_log_configured_function=before_backends, config_files=[str(home.config)]
    )
    if due:
        bootstrap = _Bootstrap(home.password(ADMIN), identity_url)
        bootstrap.bootstrap()
        _ensure_service_user(home.password(SERVICE_USER), bootstrap.service_role_id)
        _ensure_endpoints("container-infra", "moorage", container_infra_url)
        # Keystone doesn't wait until its keys are on the disk; a power cut must not leave
        # the word that they are there, and not them.
        os.sync()
        home.bootstrapped.write_text(wanted)
    return served


def _digest(home: KeystoneHome, *urls: str) -> str:
    parts = [
        importlib.metadata.version("keystone"),
        *urls,
        PUBLISHER,
        home.password(ADMIN),
        home.password(SERVICE_USER),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _is_whole(home: KeystoneHome) -> bool:
    if not home.database.exists():
        return False
    connection = sqlite3.connect(home.database)
    try:
        return bool(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def _make_keys(home: KeystoneHome) -> None:
    for directory, count, group in (
        ("fernet-keys", 3, "fernet_tokens"),
        ("credential-keys", credential_fernet.MAX_ACTIVE_KEYS, "credential"),
    ):
        keys = fernet_utils.FernetUtils(str(home.root / directory), count, group)
        keys.initialize_key_repository()


def _make_schema(home: KeystoneHome) -> None:
    if not _is_whole(home):
        for suffix in ("", "-wal", "-shm"):
            home.database.with_name(home.database.name + suffix).unlink(missing_ok=True)
    connection = sqlite3.connect(home.database)
    try:
        connection.execute("PRAGMA journal_mode = WAL")  # stays with the file
        upgrades.offline_sync_database_to_version()
        connection.execute("PRAGMA user_version = 1")
    finally:
        connection.close()


class _Bootstrap(Bootstrapper):  # type: ignore[misc]
    """Keystone's own bootstrap, inside a process whose backends are loaded.

    Its constructor would load them again, which a process may do only once; so the
    attributes that it sets are set here.
    """

    def __init__(self, password: str, url: str) -> None:
        self.admin_username = ADMIN
        self.admin_password = password
        self.project_name = ADMIN
        self.admin_role_name = "admin"
        self.manager_role_name = "manager"
        self.member_role_name = "member"
        self.reader_role_name = "reader"
        self.service_role_name = "service"
        self.immutable_roles = True
        self.region_id = REGION
        self.service_name = "keystone"
        self.public_url = self.internal_url = self.admin_url = url
        self.endpoints: dict[str, str] = {}

    def bootstrap(self) -> None:
        """Keystone's own roles and users, and the one role of ours beside them."""
        super().bootstrap()
        self._ensure_role_exists(PUBLISHER)


def _ensure_service_user(password: str, role_id: str) -> None:
    resources, users = _PROVIDERS.resource_api, _PROVIDERS.identity_api
    try:
        project = resources.create_project(
            (project_id := uuid.uuid4().hex),
            {"id": project_id, "name": SERVICE_PROJECT, "domain_id": "default", "enabled": True},
        )
    except Conflict:
        project = resources.get_project_by_name(SERVICE_PROJECT, "default")
    try:
        user = users.get_user_by_name(SERVICE_USER, "default")
        try:
            users.driver.authenticate(user["id"], password)
        except AssertionError:  # another password
            users.update_user(user["id"], {"password": password, "enabled": True})
            # Keystone counts in whole seconds: it holds a token that is issued in the
            # second of the change for one of the old password's, and refuses it.
            time.sleep(1.0)
    except UserNotFound:
        user = users.create_user(
            {"name": SERVICE_USER, "password": password, "domain_id": "default", "enabled": True}
        )
    # A grant that is there already is a Conflict in Keystone.
    granted = _PROVIDERS.assignment_api.get_roles_for_user_and_project(user["id"], project["id"])
    if role_id not in granted:
        _PROVIDERS.assignment_api.add_role_to_user_and_project(user["id"], project["id"], role_id)


def _ensure_endpoints(service_type: str, name: str, url: str) -> None:
    """One service of the type, its three interfaces at `url`."""
    catalog = _PROVIDERS.catalog_api
    hints = driver_hints.Hints()
    hints.add_filter("type", service_type)
    services = catalog.list_services(hints)
    if services:
        service_id = services[0]["id"]
    else:
        service_id = uuid.uuid4().hex
        catalog.create_service(
            service_id, {"id": service_id, "name": name, "type": service_type, "enabled": True}
        )
    hints = driver_hints.Hints()
    hints.add_filter("service_id", service_id)
    present = {endpoint["interface"]: endpoint for endpoint in catalog.list_endpoints(hints)}
    for interface in ("public", "internal", "admin"):
        if interface in present:
            catalog.update_endpoint(present[interface]["id"], {"url": url})
            continue
        endpoint_id = uuid.uuid4().hex
        catalog.create_endpoint(
            endpoint_id,
            {
                "id": endpoint_id,
                "interface": interface,
                "url": url,
                "service_id": service_id,
                "region_id": REGION,
                "enabled": True,
            },
        )
