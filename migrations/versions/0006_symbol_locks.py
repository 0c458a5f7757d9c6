"""Symbols that somebody else trades too are locked until a person releases them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "symbol_lock",
        sa.Column("symbol", TEXT, primary_key=True),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("by", TEXT, nullable=False),
        sa.Column("at", TEXT, nullable=False),
        sa.Column("external_quantity", INTEGER, nullable=False),
        sa.Column("external_orders", TEXT, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("symbol_lock")
