"""A person may lock one strategy; the gate's snapshot says whether the one that asks is locked."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "strategy_lock",
        sa.Column("strategy", TEXT, primary_key=True),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("by", TEXT, nullable=False),
        sa.Column("at", TEXT, nullable=False),
    )
    op.add_column("risk_snapshot", sa.Column("strategy_lock", TEXT, nullable=True))


def downgrade() -> None:
    op.drop_column("risk_snapshot", "strategy_lock")
    op.drop_table("strategy_lock")
