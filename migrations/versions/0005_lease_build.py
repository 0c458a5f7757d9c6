"""A lease names the build that lives under it; none where a build wrote it that did not say."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("lease", sa.Column("build_hash", TEXT, nullable=True))


def downgrade() -> None:
    op.drop_column("lease", "build_hash")
