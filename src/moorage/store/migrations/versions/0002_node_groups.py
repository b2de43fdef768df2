"""Node groups, CA rotation, quotas, events, audit, heartbeats and offers.

Every cluster of before has the two default groups, made of the columns that it had. The
four flavors that there were stand here as they were then.
"""

import datetime
import json
import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

FLAVORS = {
    "tiny": (1, 512, 2, 2048),
    "small": (2, 1024, 5, 4096),
    "medium": (2, 4096, 20, 8192),
    "large": (4, 8192, 40, 16384),
}
DEFAULTED = ("groups", "batch_size", "credentials", "nodes", "cpus", "memory_mib", "disk_gib")
CLUSTERS = sa.table(
    "clusters",
    sa.column("id", sa.Integer),
    *(
        sa.column(name, sa.String)
        for name in ("template_uuid", "flavor_id", "master_flavor_id", "status")
    ),
    *(
        sa.column(name, sa.Integer)
        for name in ("master_count", "node_count", "created_at", "nodes", "cpus")
    ),
    *(sa.column(name, sa.BigInteger) for name in ("memory_mib", "disk_gib")),
    *(
        sa.column(name, sa.JSON)
        for name in ("labels", "options", "groups", "master_addresses", "node_addresses")
    ),
)


def added() -> list[sa.Column[Any]]:
    return [
        sa.Column("groups", sa.JSON(), nullable=False, server_default="[]"),
        sa.Column("batch_size", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("rotation", sa.String(16)),
        sa.Column("credentials", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("fallback", sa.JSON()),
        sa.Column("nodes", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("cpus", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("memory_mib", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("disk_gib", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("coming_certificate", sa.LargeBinary()),
        sa.Column("coming_key", sa.LargeBinary()),
    ]


def upgrade() -> None:
    with op.batch_alter_table("clusters", table_kwargs={"sqlite_autoincrement": True}) as table:
        for column in added():
            table.add_column(column)
    _make_groups()
    with op.batch_alter_table("clusters", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.drop_column("master_addresses")
        table.drop_column("node_addresses")
        for name in DEFAULTED:
            table.alter_column(name, server_default=None)
    op.create_table(
        "quotas",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("resource", sa.String(16), nullable=False),
        sa.Column("hard_limit", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_quotas"),
        sa.UniqueConstraint("project_id", "resource", name="uq_quotas_project_id_resource"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("cluster_uuid", sa.String(36), nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("turn", sa.String(36)),
        sa.Column("seconds", sa.Float()),
        sa.Column("cause", sa.Text()),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_at", "events", ["at"])
    op.create_index("ix_events_cluster_uuid_id", "events", ["cluster_uuid", "id"])
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("user_name", sa.String(255), nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_index("ix_audit_project_id_id", "audit", ["project_id", "id"])
    op.create_table(
        "heartbeats",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("binary", sa.String(64), nullable=False),
        sa.Column("report_count", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_heartbeats"),
        sa.UniqueConstraint("host", "binary", name="uq_heartbeats_host_binary"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "offers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_offers"),
        sa.UniqueConstraint("provider", "kind", "name", name="uq_offers_provider_kind_name"),
        sqlite_autoincrement=True,
    )


def _make_groups() -> None:
    connection = op.get_bind()
    for row in connection.execute(sa.select(CLUSTERS)).all():
        groups = [
            _group(row, "default-master", row.master_flavor_id, row.master_count),
            _group(row, "default-worker", row.flavor_id, row.node_count),
        ]
        sizes = [(len(group["ordinals"]), group["flavor"]) for group in groups]
        values = {
            "groups": groups,
            "nodes": sum(count for count, _ in sizes),
            "cpus": sum(count * flavor["vcpus"] for count, flavor in sizes),
            "memory_mib": sum(count * flavor["memory_mib"] for count, flavor in sizes),
            "disk_gib": sum(count * flavor["disk_gib"] for count, flavor in sizes),
        }
        connection.execute(CLUSTERS.update().where(CLUSTERS.c.id == row.id).values(values))


def _group(row: Any, name: str, flavor: str, count: int) -> dict[str, Any]:
    role = name.removeprefix("default-")
    vcpus, memory_mib, disk_gib, pids = FLAVORS.get(flavor, FLAVORS["small"])
    known = row.master_addresses if role == "master" else row.node_addresses
    created = datetime.datetime.fromtimestamp(row.created_at / 1e6, datetime.UTC)
    return {
        "uuid": str(uuid.uuid4()),
        "name": name,
        "prefix": role,
        "role": role,
        "flavor": {
            "name": flavor,
            "vcpus": vcpus,
            "memory_mib": memory_mib,
            "disk_gib": disk_gib,
            "pids": pids,
        },
        "ordinals": list(range(count)),
        "template_uuid": row.template_uuid,
        "image_id": None,
        "min_node_count": 1 if role == "master" else 0,
        "max_node_count": None,
        "docker_volume_size": row.options.get("docker_volume_size"),
        "labels": dict(row.labels),
        "merge_labels": False,
        "node_labels": {},
        "node_taints": [],
        "created_at": created.isoformat(),
        "updated_at": None,
        "status": row.status,
        "status_reason": None,
        "addresses": {f"{role}-{i}": address for i, address in enumerate(known)},
    }


def downgrade() -> None:
    """Groups beyond the default ones, and what they hold, are not there before."""
    connection = op.get_bind()
    more = sa.text("SELECT uuid, groups FROM clusters")
    for row in connection.execute(more).all():
        groups = json.loads(row.groups) if isinstance(row.groups, str) else row.groups
        if len(groups) > 2:
            raise RuntimeError(f"cluster {row.uuid} has node groups: delete them first")
    for name in ("offers", "heartbeats", "audit", "events", "quotas"):
        op.drop_table(name)
    with op.batch_alter_table("clusters", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.add_column(sa.Column("master_addresses", sa.JSON(), server_default="[]"))
        table.add_column(sa.Column("node_addresses", sa.JSON(), server_default="[]"))
        for column in added():
            table.drop_column(column.name)
    with op.batch_alter_table("clusters", table_kwargs={"sqlite_autoincrement": True}) as table:
        for name in ("master_addresses", "node_addresses"):
            table.alter_column(name, nullable=False, server_default=None)
