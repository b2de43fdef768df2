"""The tables. What a migration makes must equal what stands here (a test compares them)."""

from __future__ import annotations

import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MICROSECOND = datetime.timedelta(microseconds=1)


class Instant(TypeDecorator[datetime.datetime]):
    """An aware time, kept as whole microseconds since the epoch: exact, and it sorts."""

    impl = BigInteger
    cache_ok = True

    @staticmethod
    def now() -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC)

    def process_bind_param(self, value: Any, _dialect: object) -> int | None:
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: Any, _dialect: object) -> datetime.datetime | None:
        return None if value is None else EPOCH + int(value) * MICROSECOND


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

templates = Table(
    "cluster_templates",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uuid", String(36), nullable=False, unique=True),
    Column("project_id", String(64), nullable=False, index=True),
    Column("user_id", String(64), nullable=False),
    Column("name", String(255), index=True),
    Column("coe", String(64), nullable=False),
    Column("flavor_id", String(255), nullable=False),
    Column("master_flavor_id", String(255), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("options", JSON, nullable=False),
    Column("public", Boolean, nullable=False),
    Column("hidden", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant),
    sqlite_autoincrement=True,
)

clusters = Table(
    "clusters",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uuid", String(36), nullable=False, unique=True),
    Column("project_id", String(64), nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("name", String(242), nullable=False),
    Column(
        "template_uuid",
        String(36),
        ForeignKey(templates.c.uuid, ondelete="RESTRICT"),
        nullable=False,
        index=True,
    ),
    Column("coe", String(64), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("create_timeout", Integer, nullable=False),
    Column("groups", JSON, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("options", JSON, nullable=False),
    Column("batch_size", Integer, nullable=False),
    Column("rotation", String(16)),
    Column("credentials", Integer, nullable=False),
    Column("fallback", JSON(none_as_null=True)),
    Column("deadline", Instant),
    Column("forced_by", String(255)),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant),
    Column("status", String(32), nullable=False),
    Column("status_reason", Text),
    Column("health_status", String(16), nullable=False),
    Column("health_reasons", JSON, nullable=False),
    Column("api_address", Text),
    Column("coe_version", Text),
    Column("container_version", Text),
    Column("attempts", Integer, nullable=False),
    Column("seen_at", Instant),
    Column("healing", JSON, nullable=False),
    # What follows from the groups: to sort by, and to be counted for quotas.
    Column("flavor_id", String(255), nullable=False),
    Column("master_flavor_id", String(255), nullable=False),
    Column("master_count", Integer, nullable=False),
    Column("node_count", Integer, nullable=False),
    Column("nodes", Integer, nullable=False),
    Column("cpus", Integer, nullable=False),
    Column("memory_mib", BigInteger, nullable=False),
    Column("disk_gib", BigInteger, nullable=False),
    # The CA, and the one that it is being changed for. Keys are sealed, bound to the uuid.
    Column("ca_certificate", LargeBinary, nullable=False),
    Column("ca_key", LargeBinary, nullable=False),
    Column("coming_certificate", LargeBinary),
    Column("coming_key", LargeBinary),
    # What outlives every CA, sealed likewise. None for a cluster of before there were any.
    Column("secret", LargeBinary),
    # Claims: times in seconds since the epoch. A row without `lease_until` is free; while it
    # is claimed it falls due when its lease ends. `home`: the one place where it can be
    # conducted; empty where that is anywhere, or not yet said. `declined`: the homes that had
    # no room for it since its create was last decided.
    Column("generation", Integer, nullable=False),
    Column("home", String(255), nullable=False, server_default=""),
    Column("declined", JSON, nullable=False, server_default="[]"),
    Column("due_at", Float, nullable=False),
    Column("lease_until", Float),
    Column("lease_worker", String(255)),
    Column("token", Integer, nullable=False),
    UniqueConstraint("project_id", "name"),
    Index(None, "home", "due_at"),
    # A project's page in order, and what it takes of its quotas: both without looking at rows.
    Index(None, "project_id", "id"),
    Index(None, "project_id", "nodes", "cpus", "memory_mib", "disk_gib"),
    sqlite_autoincrement=True,
)

quotas = Table(
    "quotas",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project_id", String(64), nullable=False),
    Column("resource", String(16), nullable=False),
    Column("hard_limit", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant),
    UniqueConstraint("project_id", "resource"),
    sqlite_autoincrement=True,
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    # No foreign key: a cluster's story outlives it for a while.
    Column("cluster_uuid", String(36), nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("what", Text, nullable=False),
    Column("at", Instant, nullable=False, index=True),
    Column("turn", String(36)),
    Column("seconds", Float),
    Column("cause", Text),
    Column("ok", Boolean, nullable=False),
    Column("request_id", String(64)),
    Index(None, "cluster_uuid", "id"),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Instant, nullable=False, index=True),
    Column("request_id", String(64), nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("user_name", String(255), nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("method", String(16), nullable=False),
    Column("path", Text, nullable=False),
    Column("address", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("reason", Text),
    Column("target", Text),
    Index(None, "project_id", "id"),
    sqlite_autoincrement=True,
)

abandoned = Table(
    "abandoned",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uuid", String(36), nullable=False, unique=True),
    Column("name", String(242), nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("coe", String(64), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("nodes", JSON, nullable=False),
    Column("api_address", Text),
    Column("traces", JSON, nullable=False),
    Column("reason", Text, nullable=False),
    Column("forced_by", String(255), nullable=False),
    Column("at", Instant, nullable=False),
    Column("home", String(255), nullable=False, server_default=""),
    sqlite_autoincrement=True,
)

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("host", String(255), nullable=False),
    Column("binary", String(64), nullable=False),
    Column("report_count", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("last_seen_at", Instant, nullable=False),
    UniqueConstraint("host", "binary"),
    sqlite_autoincrement=True,
)

homes = Table(
    "homes",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("seen_at", Instant, nullable=False),
)

offers = Table(
    "offers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("provider", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("name", String(255), nullable=False),
    Column("detail", JSON, nullable=False),
    UniqueConstraint("provider", "kind", "name"),
    sqlite_autoincrement=True,
)
