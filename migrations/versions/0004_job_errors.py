"""A job keeps its last errors, not the newest alone."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("job_queue", sa.Column("errors", TEXT, nullable=True))


def downgrade() -> None:
    op.drop_column("job_queue", "errors")
