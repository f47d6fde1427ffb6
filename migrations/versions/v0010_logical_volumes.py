"""Logical volumes: images whose bytes may be taken from several places in turn."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

# What has a physical volume is looked into again by the next rescan.
_LOOK_AGAIN = """
UPDATE images SET looked_at = NULL
WHERE path IS NOT NULL AND (
    id IN (SELECT image_id FROM file_systems WHERE type = 'LVM2_member')
    OR id IN (
        SELECT disk_id FROM partitions JOIN file_systems USING (image_id)
        WHERE file_systems.type = 'LVM2_member'
    )
)
"""


def upgrade() -> None:
    """Add a column."""
    op.add_column("segments", sa.Column("stripes", sa.JSON))
    op.execute(_LOOK_AGAIN)
