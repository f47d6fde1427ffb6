"""The tables of today's schema, as SQLAlchemy Core sees them.

The schema is public: docs/sql.md describes every table, column and view. Revisions in
`migrations` never import this module; a test holds the two against each other.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ..names import file_name, legible, stored_name

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

metadata = sa.MetaData(naming_convention=NAMING_CONVENTION)


class FileName(sa.types.TypeDecorator[str]):
    """A file name: TEXT where it is valid UTF-8, else a BLOB of its bytes.

    In Python it is a `str` with surrogate escapes, as `os.fsdecode` gives it.
    """

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: object) -> str | bytes | None:  # noqa: ARG002
        """Return what SQLite stores."""
        return None if value is None else stored_name(value)

    def process_result_value(self, value: str | bytes | None, dialect: object) -> str | None:  # noqa: ARG002
        """Return what Python's file functions take."""
        return None if value is None else file_name(value)


class Words(sa.types.TypeDecorator[str]):
    r"""Words for people, from files that nobody vouches for: what is not UTF-8 becomes ``\xff``."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: object) -> str | None:  # noqa: ARG002
        """Return what SQLite stores."""
        return None if value is None else legible(value)


class WordsAsJson(sa.types.TypeDecorator[Any]):
    """JSON in which every text is as that of `Words`, so that SQLite's functions give UTF-8."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: object) -> Any:  # noqa: ARG002, ANN401
        """Return what becomes JSON."""
        return _legible_within(value)


def _legible_within(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        return legible(value)
    if isinstance(value, list):
        return [_legible_within(each) for each in value]
    if isinstance(value, dict):
        return {key: _legible_within(each) for key, each in value.items()}
    return value


identity = sa.Table(
    "identity",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, nullable=False),
    sa.Column("key", sa.BigInteger, nullable=False),
    sa.Column("is_portable", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("transactions", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.CheckConstraint("id = 1", name="one"),
)

indexes = sa.Table(
    "indexes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("total_units", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("content_key", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("sealed_at", sa.Text),
    sa.Column("digest", sa.LargeBinary, index=True),
    # An id is never used again: a daemon may still read by an old one.
    sqlite_autoincrement=True,
)

seals = sa.Table(
    "seals",
    metadata,
    sa.Column(
        "index_id",
        sa.Integer,
        sa.ForeignKey("indexes.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("page_group", sa.Integer, primary_key=True, nullable=False),
    sa.Column("hashes", sa.LargeBinary, nullable=False),
)

rank_chunks = sa.Table(
    "rank_chunks",
    metadata,
    sa.Column(
        "index_id",
        sa.Integer,
        sa.ForeignKey("indexes.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("chunk", sa.Integer, primary_key=True, nullable=False),
    sa.Column("rank", sa.BigInteger, nullable=False),
    sa.Column("bitmap", sa.LargeBinary, nullable=False),
)

cluster_ranges = sa.Table(
    "cluster_ranges",
    metadata,
    sa.Column(
        "index_id",
        sa.Integer,
        sa.ForeignKey("indexes.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("first_cluster", sa.BigInteger, primary_key=True, nullable=False),
    sa.Column("cluster_count", sa.BigInteger, nullable=False),
    sa.Column("source_offset", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

map_chunks = sa.Table(
    "map_chunks",
    metadata,
    sa.Column(
        "index_id",
        sa.Integer,
        sa.ForeignKey("indexes.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("chunk", sa.Integer, primary_key=True, nullable=False),
    sa.Column("runs", sa.LargeBinary, nullable=False),
)

images = sa.Table(
    "images",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", FileName, nullable=False, unique=True),
    sa.Column("path", FileName, unique=True),
    sa.Column("format", sa.Text, nullable=False),
    sa.Column("format_version", sa.Text, nullable=False),
    sa.Column("creator", Words),
    sa.Column("fs_type", Words, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("block_size", sa.Integer, nullable=False),
    sa.Column("total_blocks", sa.BigInteger, nullable=False),
    sa.Column("used_blocks", sa.BigInteger, nullable=False),
    sa.Column("used_bytes", sa.BigInteger, nullable=False),
    sa.Column("stored_bytes", sa.BigInteger, nullable=False),
    sa.Column("compression", sa.Text),
    sa.Column("volume_count", sa.Integer, nullable=False),
    sa.Column("checksum", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("status_detail", Words),
    sa.Column("warnings", WordsAsJson, nullable=False),
    sa.Column("header", WordsAsJson, nullable=False),
    sa.Column("layout", sa.JSON, nullable=False),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False, index=True),
    sa.Column("index_id", sa.Integer, sa.ForeignKey("indexes.id"), nullable=False, index=True),
    sa.Column("added_at", sa.Text, nullable=False),
    sa.Column("scanned_at", sa.Text, nullable=False),
    sa.Column("scan_seconds", sa.Float, nullable=False),
    sa.Column("verified_at", sa.Text),
    sa.Column("verify_result", sa.Text),
    sa.Column("verify_detail", Words),
    sa.Column("content", sa.Text, nullable=False, server_default=sa.text("'full'")),
    sa.Column("parent_id", sa.Integer, sa.ForeignKey("images.id", ondelete="CASCADE"), index=True),
    sa.Column("looked_at", sa.Text),
    sa.Column("status_before", sa.Text),
    sa.Column("detail_before", Words),
    sa.CheckConstraint(
        "status IN ('ready', 'stale', 'missing', 'damaged', 'failed', 'needs-repack', 'live')",
        name="status",
    ),
    sqlite_autoincrement=True,
)

volumes = sa.Table(
    "volumes",
    metadata,
    sa.Column(
        "image_id",
        sa.Integer,
        sa.ForeignKey("images.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("ordinal", sa.Integer, primary_key=True, nullable=False),
    sa.Column("path", FileName, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("inode", sa.BigInteger, nullable=False),
    sa.Column("mode", sa.Integer, nullable=False),
    sa.Column("uid", sa.Integer, nullable=False),
    sa.Column("gid", sa.Integer, nullable=False),
    sa.Column("stream", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("role", sa.Text, nullable=False, server_default=sa.text("'image'")),
    sa.Index(None, "size_bytes", "mtime_ns", "inode"),
)

partition_tables = sa.Table(
    "partition_tables",
    metadata,
    sa.Column(
        "disk_id",
        sa.Integer,
        sa.ForeignKey("images.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("scheme", sa.Text, nullable=False),
    sa.Column("uuid", sa.Text),
    sa.Column("sector_size", sa.Integer, nullable=False),
)

partitions = sa.Table(
    "partitions",
    metadata,
    sa.Column(
        "disk_id",
        sa.Integer,
        sa.ForeignKey("images.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("number", sa.Integer, primary_key=True, nullable=False),
    sa.Column("start_byte", sa.BigInteger, nullable=False),
    sa.Column("stop_byte", sa.BigInteger, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("type_name", sa.Text),
    sa.Column("uuid", sa.Text),
    sa.Column("label", Words),
    sa.Column("is_bootable", sa.Integer, nullable=False),
    sa.Column("is_container", sa.Integer, nullable=False),
    sa.Column("image_id", sa.Integer, sa.ForeignKey("images.id", ondelete="SET NULL"), index=True),
)

file_systems = sa.Table(
    "file_systems",
    metadata,
    sa.Column(
        "image_id",
        sa.Integer,
        sa.ForeignKey("images.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("uuid", sa.Text, index=True),
    sa.Column("label", Words),
    sa.Column("block_size", sa.Integer),
    sa.Column("size_bytes", sa.BigInteger),
    sa.Column("features", WordsAsJson, nullable=False),
    sa.Column("journal", sa.Text, nullable=False),
    sa.Column("is_dirty", sa.Integer, nullable=False),
    sa.Column("written_at", sa.Text),
    sa.Column("detail", WordsAsJson, nullable=False),
)

bad_ranges = sa.Table(
    "bad_ranges",
    metadata,
    sa.Column(
        "image_id",
        sa.Integer,
        sa.ForeignKey("images.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("ordinal", sa.Integer, primary_key=True, nullable=False),
    sa.Column("start_byte", sa.BigInteger),
    sa.Column("stop_byte", sa.BigInteger),
    sa.Column("detail", Words, nullable=False),
)

streams = sa.Table(
    "streams",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column(
        "index_id", sa.Integer, sa.ForeignKey("indexes.id", ondelete="CASCADE"), nullable=False
    ),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("codec", sa.Text, nullable=False),
    sa.Column("library", sa.Text, nullable=False),
    sa.Column("index_version", sa.Integer, nullable=False),
    sa.Column("plain_bytes", sa.BigInteger, nullable=False),
    sa.Column("stored_bytes", sa.BigInteger, nullable=False),
    sa.Column("span_bytes", sa.BigInteger, nullable=False),
    sa.Column("trusted_bytes", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.UniqueConstraint("index_id", "ordinal"),
    sqlite_autoincrement=True,
)

seek_points = sa.Table(
    "seek_points",
    metadata,
    sa.Column(
        "stream_id",
        sa.Integer,
        sa.ForeignKey("streams.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("plain_offset", sa.BigInteger, primary_key=True, nullable=False),
    sa.Column("stored_offset", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Integer, nullable=False),
    sa.Column("window_bytes", sa.Integer, nullable=False),
    sa.Column("window", sa.LargeBinary, nullable=False),
)

page_hashes = sa.Table(
    "page_hashes",
    metadata,
    sa.Column(
        "stream_id",
        sa.Integer,
        sa.ForeignKey("streams.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("page_group", sa.Integer, primary_key=True, nullable=False),
    sa.Column("hashes", sa.LargeBinary, nullable=False),
)

segments = sa.Table(
    "segments",
    metadata,
    sa.Column(
        "index_id",
        sa.Integer,
        sa.ForeignKey("indexes.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("start_byte", sa.BigInteger, primary_key=True, nullable=False),
    sa.Column("stop_byte", sa.BigInteger, nullable=False),
    sa.Column("child_name", FileName),
    sa.Column("child_id", sa.Integer, sa.ForeignKey("images.id", ondelete="SET NULL"), index=True),
    sa.Column("child_key", sa.BigInteger),
    sa.Column("child_offset", sa.BigInteger),
    sa.Column("literal", sa.LargeBinary),
    sa.Column("stripes", sa.JSON),
    sa.CheckConstraint(
        "stop_byte > start_byte AND (literal IS NULL) <> (child_name IS NULL)", name="content"
    ),
)

image_directories = sa.Table(
    "image_directories",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("path", FileName, nullable=False, unique=True),
    sa.Column("name", FileName, nullable=False),
    sa.Column("clonezilla_version", Words),
    sa.Column("saved_at", Words),
    sa.Column("is_broken", sa.Integer, nullable=False),
    sa.Column("scanned_at", sa.Text, nullable=False),
)

directory_images = sa.Table(
    "directory_images",
    metadata,
    sa.Column(
        "directory_id",
        sa.Integer,
        sa.ForeignKey("image_directories.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("role", sa.Text, primary_key=True, nullable=False),
    sa.Column("device", FileName, primary_key=True, nullable=False),
    sa.Column(
        "image_id",
        sa.Integer,
        sa.ForeignKey("images.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
)

directory_facts = sa.Table(
    "directory_facts",
    metadata,
    sa.Column(
        "directory_id",
        sa.Integer,
        sa.ForeignKey("image_directories.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("kind", sa.Text, primary_key=True, nullable=False),
    sa.Column("ordinal", sa.Integer, primary_key=True, nullable=False),
    sa.Column("name", FileName, nullable=False),
    sa.Column("detail", WordsAsJson, nullable=False),
)

verify_stages = sa.Table(
    "verify_stages",
    metadata,
    sa.Column(
        "image_id",
        sa.Integer,
        sa.ForeignKey("images.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("index_id", sa.Integer, nullable=False),
    sa.Column("files", sa.JSON, nullable=False),
    sa.Column("reached", sa.BigInteger, nullable=False),
    sa.Column("bad_count", sa.Integer, nullable=False),
    sa.Column("found", WordsAsJson, nullable=False),
    sa.Column("done_blocks", sa.LargeBinary),
    sa.Column("hashes", sa.LargeBinary),
    sa.Column("stopped_at", sa.Text, nullable=False),
)

worker_failures = sa.Table(
    "worker_failures",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column(
        "image_id",
        sa.Integer,
        sa.ForeignKey("images.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column(
        "index_id",
        sa.Integer,
        sa.ForeignKey("indexes.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("failed_at", sa.Text, nullable=False),
    sa.Column("fs_type", sa.Text, nullable=False),
    sa.Column("question", Words, nullable=False),
    sa.Column("ending", Words, nullable=False),
)

passed_over = sa.Table(
    "passed_over",
    metadata,
    sa.Column("path", FileName, primary_key=True, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("inode", sa.BigInteger, nullable=False),
    sa.Column("code", sa.Integer, nullable=False),
    sa.Column("reason", Words, nullable=False),
    sa.Column("since", sa.Text, nullable=False),
)

file_lineages = sa.Table(
    "file_lineages",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("fs_type", sa.Text, nullable=False),
    sa.Column("fs_uuid", sa.Text),
    sa.Column("label", Words, nullable=False, server_default=sa.text("''")),
    sa.UniqueConstraint("fs_type", "fs_uuid", "label"),
)

file_generations = sa.Table(
    "file_generations",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column(
        "lineage_id",
        sa.Integer,
        sa.ForeignKey("file_lineages.id", ondelete="CASCADE"),
        nullable=False,
    ),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("image_id", sa.Integer, sa.ForeignKey("images.id", ondelete="CASCADE"), unique=True),
    sa.Column("snapshot_name", FileName, unique=True),
    sa.Column("taken_at", sa.Text, nullable=False),
    sa.Column("taken_from", sa.Text, nullable=False),
    sa.Column("indexed_at", sa.Text, nullable=False),
    sa.Column("file_count", sa.BigInteger, nullable=False),
    sa.Column("problem_count", sa.BigInteger, nullable=False),
    sa.Column("caveat", Words),
    sa.UniqueConstraint("lineage_id", "number"),
    sa.CheckConstraint("(image_id IS NULL) <> (snapshot_name IS NULL)", name="origin"),
)

file_names = sa.Table(
    "file_names",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("hash", sa.Integer, nullable=False, index=True),
    sa.Column("name", FileName, nullable=False),
)

file_directories = sa.Table(
    "file_directories",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("parent_id", sa.Integer),
    sa.Column("name_id", sa.Integer),
    sa.UniqueConstraint("parent_id", "name_id"),
)

file_versions = sa.Table(
    "file_versions",
    metadata,
    sa.Column(
        "lineage_id",
        sa.Integer,
        sa.ForeignKey("file_lineages.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("directory_id", sa.Integer, primary_key=True, nullable=False),
    sa.Column("name_id", sa.Integer, primary_key=True, nullable=False, index=True),
    sa.Column("first_generation", sa.Integer, primary_key=True, nullable=False),
    sa.Column("last_generation", sa.Integer),
    sa.Column("mode", sa.Integer, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger),
    sa.Column("inode", sa.BigInteger, nullable=False),
    sa.Column("flags", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)

file_hashes = sa.Table(
    "file_hashes",
    metadata,
    sa.Column(
        "generation_id",
        sa.Integer,
        sa.ForeignKey("file_generations.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("directory_id", sa.Integer, primary_key=True, nullable=False),
    sa.Column("name_id", sa.Integer, primary_key=True, nullable=False),
    sa.Column("sha256", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

file_leftovers = sa.Table(
    "file_leftovers",
    metadata,
    sa.Column("directory_id", sa.Integer, primary_key=True, nullable=False),
    sa.Column("name_id", sa.Integer, primary_key=True, nullable=False),
    sqlite_with_rowid=False,
)

snapshots = sa.Table(
    "snapshots",
    metadata,
    sa.Column(
        "generation_id",
        sa.Integer,
        sa.ForeignKey("file_generations.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("source", FileName, nullable=False),
    sa.Column("source_kind", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("state", Words, nullable=False),
    sa.Column("has_hashes", sa.Integer, nullable=False),
)

snapshot_names = sa.Table(
    "snapshot_names",
    metadata,
    sa.Column(
        "generation_id",
        sa.Integer,
        sa.ForeignKey("snapshots.generation_id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("directory_id", sa.Integer, primary_key=True, nullable=False),
    sa.Column("name_id", sa.Integer, primary_key=True, nullable=False),
    sa.Column("inode", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

snapshot_files = sa.Table(
    "snapshot_files",
    metadata,
    sa.Column(
        "generation_id",
        sa.Integer,
        sa.ForeignKey("snapshots.generation_id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("inode", sa.BigInteger, primary_key=True, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("runs", sa.LargeBinary),
    sa.Column("data", sa.LargeBinary),
    sa.Column("hashes", sa.LargeBinary),
    sa.Column("why", Words),
    sqlite_with_rowid=False,
)
