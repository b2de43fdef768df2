"""What an operator may set: by `moorage up` options, `MOORAGE_*` variables, or not at all."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from moorage.model.node import Flavor
from moorage.model.quota import Amounts, Resource

FLAVORS: tuple[Flavor, ...] = (
    Flavor("tiny", vcpus=1, memory_mib=512, disk_gib=2, pids=2048),
    Flavor("small", vcpus=2, memory_mib=1024, disk_gib=5, pids=4096),
    Flavor("medium", vcpus=2, memory_mib=4096, disk_gib=20, pids=8192),
    Flavor("large", vcpus=4, memory_mib=8192, disk_gib=40, pids=16384),
    # What python-magnumclient asks for where its user names none; Nova's classic sizes.
    Flavor("m1.small", vcpus=1, memory_mib=2048, disk_gib=20, pids=4096),
    Flavor("m1.medium", vcpus=2, memory_mib=4096, disk_gib=40, pids=8192),
)


class Settings(BaseSettings):
    """One install on one machine. All of its files lie under `state`, unless said otherwise."""

    model_config = SettingsConfigDict(env_prefix="MOORAGE_", extra="ignore")

    state: Path = Path("/var/lib/moorage")
    nodes: Path | None = None
    """Where the local nodes lie; None: `<state>/nodes`. A restored install may find them elsewhere.
    """
    host: str = "127.0.0.1"
    """The address that the API listens on."""
    port: int = 9511
    keystone: str | None = None
    """An existing Keystone, e.g. `https://cloud:5000/v3`; None: the embedded one."""
    keystone_port: int = 5000
    keystone_user: str = "moorage"
    """The service user that validates tokens (with an existing Keystone)."""
    keystone_password: SecretStr | None = None
    keystone_project: str = "service"
    trust_proxy: bool = False
    """A proxy stands before the API and sets X-Forwarded-*, and no client can."""
    public_address: str | None = None
    """The address under which other machines reach this one; None: found from the routes."""
    pool: ipaddress.IPv4Network = ipaddress.IPv4Network("10.128.0.0/12")
    """Where the clusters' networks come from: one /24 each."""
    provider: str = "local"
    key_file: Path | None = None
    """The key that seals the clusters' CA keys at rest; None: `<state>/keys/seal.key`."""
    key_lost: str | None = None
    """The name of a key (`Seal.name`): while it is in the key file, start though some CA keys don't
    open; their clusters can be deleted. Of any other key file, as of one that was made in an empty
    mount point, nothing was said: it is refused.
    """
    token_cache_seconds: int = Field(default=30, ge=0)
    """How long a revoked token may still be believed."""
    database_url: SecretStr | None = None
    """`postgresql://user:password@host/name`; None: a SQLite file in `state`."""
    only: Literal["api", "conductor"] | None = None
    """Be one half of Moorage, beside other processes on one PostgreSQL; None: be both."""
    machine: str = Field(default_factory=socket.gethostname, pattern=r"^[^/\s]{1,200}$")
    """This machine's name among those that share a database; the host name unless it is said.

    Local clusters remember it: under another name it is another machine to them.
    """
    lease_seconds: float = Field(default=30.0, ge=2)
    """How long the clusters of a conductor that died wait until another one takes them."""
    quota_clusters: int = Field(default=20, ge=-1)
    """Of each project that has no quota of its own; -1: no limit. So are those below."""
    quota_nodes: int = Field(default=100, ge=-1)
    quota_cpus: int = Field(default=200, ge=-1)
    quota_memory_mib: int = Field(default=262_144, ge=-1)
    quota_disk_gib: int = Field(default=4_000, ge=-1)
    quota_templates: int = Field(default=200, ge=-1)
    """Cluster templates of each project; lists hold all of them."""
    memory_overcommit: float = Field(default=1.0, gt=0)
    """Promised memory may reach this many times the machine's own."""
    heal_seconds: float = Field(default=40.0, gt=0)
    """How often a cluster with nothing to do is looked at; lost nodes are noticed at once."""
    heal_replacements: int = Field(default=3, ge=1)
    """Nodes of one cluster (or a quarter of them, if that is more) that healing replaces
    within `heal_window_seconds`; then it is on hold until that time has passed."""
    heal_window_seconds: float = Field(default=1800.0, gt=0)
    metrics_host: str = "127.0.0.1"
    """The address for Prometheus: /metrics, /healthz and /readyz, without a token."""
    metrics_port: int = Field(default=9512, ge=0, le=65535)
    """0: none."""
    sign_in_port: int = Field(default=9513, ge=0, le=65535)
    """Where API servers of clusters ask about tokens of Keystone's, by TLS; 0: nowhere."""
    sign_in_host: str | None = None
    """The address that it listens on; None: this machine's own, found from the routes."""
    sign_in_url: str | None = Field(default=None, pattern=r"^https://[^/\s]+$")
    """`https://address:port` as clusters' masters reach it; None: the two above. To be said where
    the API is not on the conductor's machine, or there are several behind one address."""
    rate: float = Field(default=20.0, ge=0)
    """Changes a second that each project may ask for; 0: no limit."""
    rate_burst: int = Field(default=200, ge=1)
    """So many at once, before `rate` counts."""
    connections: int = Field(default=1000, ge=1)
    """Open ones of clients; fewer where the process may not have so many descriptors."""
    connections_per_address: int = Field(default=200, ge=0)
    """0, or behind a proxy that is trusted: no limit."""
    receive_seconds: float = Field(default=20.0, gt=0)
    """A request that takes longer to arrive is cut off."""
    send_seconds: float = Field(default=30.0, gt=0)
    """Who takes longer to read an answer is cut off."""
    stop_seconds: float = Field(default=0.0, ge=0)
    """After SIGTERM the API says on /readyz that it stops, and answers on, for at least so long:
    for load balancers, who look at it every now and then."""
    log_file: Path | None = None
    """The log that standard error is (`moorage up` says so): rotated by the server itself."""
    log_mib: float = Field(default=10.0, gt=0)
    """A log file that is larger is set aside as `<name>.1`, in place of the one before."""

    fakes: bool = False
    """Offer the fake provider and COE as well: for tests and benchmarks."""
    fake_nodes: Path | None = None
    """Keep the fake nodes as files there, where several processes see them."""

    @field_validator("only", mode="before")
    @classmethod
    def _both(cls, given: object) -> object:
        """To say `both` is the one way to take back a half that was kept."""
        return None if given == "both" else given

    @field_validator("key_lost", mode="before")
    @classmethod
    def _named(cls, given: object) -> object:
        """A bare `true` names no key: it has to be said again."""
        return None if isinstance(given, bool) else given

    @property
    def database(self) -> str:
        """It may hold a password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.state / 'moorage.db'}"

    @property
    def quotas(self) -> Amounts:
        return {
            Resource.CLUSTER: self.quota_clusters,
            Resource.NODE: self.quota_nodes,
            Resource.CPU: self.quota_cpus,
            Resource.MEMORY: self.quota_memory_mib,
            Resource.DISK: self.quota_disk_gib,
        }

    @property
    def nodes_directory(self) -> Path:
        return self.nodes or self.state / "nodes"

    @property
    def seal_file(self) -> Path:
        return self.key_file or self.state / "keys" / "seal.key"
