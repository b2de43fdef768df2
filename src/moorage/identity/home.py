"""The embedded Keystone's own directory, `<state>/keystone/`: what lies where.

Both sides read this: the process that starts Keystone and the one that is it. So
nothing of Keystone may be imported here.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

ADMIN = "admin"
"""The first user, and its project."""
SERVICE_USER = "moorage"
"""The user by which Moorage validates tokens; its role is `service`, and no other."""
PUBLISHER = "publisher"
"""The role that lets a tenant make its cluster templates public or hidden."""
SERVICE_PROJECT = "service"
REGION = "RegionOne"

_CONFIG = """\
# Written anew at every start of Moorage.
[DEFAULT]
log_file = {root}/keystone.log
use_stderr = false
log_rotation_type = size
max_logfile_size_mb = 10
max_logfile_count = 2
default_log_levels = root=WARNING, keystone=WARNING
strict_password_check = true
notification_format = basic

[database]
connection = sqlite:///{root}/keystone.db

[cache]
enabled = true
backend = dogpile.cache.memory

[identity]
# About 70 ms a log-in on one core (Keystone's own default, 12: about 280 ms). It is
# set before the first password is made, and holds for those that are made after it.
password_hash_rounds = 10
# Plain bcrypt reads 72 bytes, and the secrets of application credentials are longer.
password_hash_algorithm = bcrypt_sha256

[fernet_tokens]
key_repository = {root}/fernet-keys

[fernet_receipts]
key_repository = {root}/fernet-keys

[credential]
key_repository = {root}/credential-keys

[oslo_messaging_notifications]
driver = noop
"""


@dataclass(frozen=True, slots=True)
class KeystoneHome:
    """`<state>/keystone/`, readable by its owner only."""

    state: Path

    @property
    def root(self) -> Path:
        return self.state / "keystone"

    @property
    def config(self) -> Path:
        return self.root / "keystone.conf"

    @property
    def database(self) -> Path:
        return self.root / "keystone.db"

    @property
    def stderr(self) -> Path:
        """What the last start printed: the cause, where it failed."""
        return self.root / "stderr.log"

    @property
    def bootstrapped(self) -> Path:
        """Holds a digest of what the last bootstrap, that ran to its end, was told."""
        return self.root / "bootstrapped"

    def prepare(self) -> None:
        """Make the directory, the configuration and the passwords, where they are missing."""
        self.state.mkdir(parents=True, exist_ok=True)
        self.root.mkdir(mode=0o700, exist_ok=True)
        self.root.chmod(0o700)
        for name in ("fernet-keys", "credential-keys", "conf.d"):
            (self.root / name).mkdir(mode=0o700, exist_ok=True)
        write_private(self.config, _CONFIG.format(root=self.root))
        for user in (ADMIN, SERVICE_USER):
            if not self._password_file(user).exists():
                write_private(self._password_file(user), secrets.token_urlsafe(24))

    def password(self, user: str) -> str:
        """The password of ADMIN or SERVICE_USER, as `prepare` made it."""
        return self._password_file(user).read_text().strip()

    def _password_file(self, user: str) -> Path:
        return self.root / f"{user}.password"


def write_private(path: Path, text: str) -> None:
    """Write `path` whole or not at all, readable by its owner only."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
