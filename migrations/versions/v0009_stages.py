"""Verifications that were ended in their middle, to be gone on with."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "verify_stages",
        sa.Column("image_id", sa.Integer, nullable=False),
        sa.Column("index_id", sa.Integer, nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
        sa.Column("reached", sa.BigInteger, nullable=False),
        sa.Column("bad_count", sa.Integer, nullable=False),
        sa.Column("found", sa.JSON, nullable=False),
        sa.Column("done_blocks", sa.LargeBinary),
        sa.Column("hashes", sa.LargeBinary),
        sa.Column("stopped_at", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("image_id", name="pk_verify_stages"),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name="fk_verify_stages_image_id_images", ondelete="CASCADE"
        ),
    )
