"""What a cluster keeps for itself beside its CA: a secret, sealed. Clusters of before have none."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("clusters", sa.Column("secret", sa.LargeBinary()))


def downgrade() -> None:
    """What followed from it is lost: clusters of Kubernetes don't come up again."""
    with op.batch_alter_table("clusters", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.drop_column("secret")
