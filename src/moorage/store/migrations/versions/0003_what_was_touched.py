"""The audit log names what a request touched, and an event the request that it comes from."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("audit", sa.Column("target", sa.Text()))
    op.add_column("events", sa.Column("request_id", sa.String(64)))


def downgrade() -> None:
    op.drop_column("events", "request_id")
    op.drop_column("audit", "target")
