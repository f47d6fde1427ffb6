"""A shelf that moves: paths beside the catalog, what was before it was away, files passed over."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

# A block device is never ready, and nothing is wrong with it. What is made of others has no bytes
# of its own to verify.
_TOTALS = """
CREATE VIEW totals AS
SELECT count(*) AS images,
       CAST(total(size_bytes) FILTER (WHERE path IS NOT NULL) AS INTEGER) AS size_bytes,
       CAST(total(used_bytes) FILTER (WHERE path IS NOT NULL) AS INTEGER) AS used_bytes,
       CAST(total(stored_bytes) FILTER (WHERE path IS NOT NULL) AS INTEGER) AS stored_bytes,
       count(*) FILTER (WHERE status NOT IN ('ready', 'live')) AS not_ready,
       count(*) FILTER (WHERE verified_at IS NULL AND path IS NOT NULL AND status <> 'live')
       AS never_verified
FROM images
"""
_ATTENTION = """
CREATE VIEW attention AS
SELECT id, name, status AS what, status_detail AS detail, path FROM images
WHERE status NOT IN ('ready', 'live')
UNION ALL
SELECT id, name, 'verify ' || verify_result, verify_detail, path FROM images
WHERE verify_result <> 'ok'
UNION ALL
SELECT images.id, images.name, 'warning', warning.value, images.path
FROM images, json_each(images.warnings) AS warning
"""


def upgrade() -> None:
    """Add columns, an index and a table, and make two views anew."""
    for name, statement in {"totals": _TOTALS, "attention": _ATTENTION}.items():
        op.execute(f"DROP VIEW {name}")
        op.execute(statement)
    for name in ("is_portable", "transactions"):
        op.add_column(
            "identity",
            sa.Column(name, sa.Integer, nullable=False, server_default=sa.text("0")),
        )
    op.add_column("images", sa.Column("status_before", sa.Text))
    op.add_column("images", sa.Column("detail_before", sa.Text))
    op.create_index(
        "ix_volumes_size_bytes_mtime_ns_inode", "volumes", ["size_bytes", "mtime_ns", "inode"]
    )
    op.create_table(
        "passed_over",
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("mtime_ns", sa.BigInteger, nullable=False),
        sa.Column("inode", sa.BigInteger, nullable=False),
        sa.Column("code", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("since", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("path", name="pk_passed_over"),
    )
