"""Every file of every image, a row for each version of it; and where files of a source lay.

The tables are made as they are read: hot ones have no foreign keys to names and directories, for
each row would be looked up there when it is written, and each name in all rows when it is deleted.
"""

from alembic import op

revision = "0012"
down_revision = "0011"

_TABLES = """
CREATE TABLE file_lineages (
	id INTEGER NOT NULL,
	fs_type TEXT NOT NULL,
	fs_uuid TEXT,
	label TEXT DEFAULT '' NOT NULL,
	CONSTRAINT pk_file_lineages PRIMARY KEY (id),
	CONSTRAINT uq_file_lineages_fs_type_fs_uuid_label UNIQUE (fs_type, fs_uuid, label)
);
CREATE TABLE file_generations (
	id INTEGER NOT NULL,
	lineage_id INTEGER NOT NULL,
	number INTEGER NOT NULL,
	image_id INTEGER,
	snapshot_name TEXT,
	taken_at TEXT NOT NULL,
	taken_from TEXT NOT NULL,
	indexed_at TEXT NOT NULL,
	file_count BIGINT NOT NULL,
	problem_count BIGINT NOT NULL,
	caveat TEXT,
	CONSTRAINT pk_file_generations PRIMARY KEY (id),
	CONSTRAINT uq_file_generations_lineage_id_number UNIQUE (lineage_id, number),
	CONSTRAINT uq_file_generations_image_id UNIQUE (image_id),
	CONSTRAINT uq_file_generations_snapshot_name UNIQUE (snapshot_name),
	CONSTRAINT fk_file_generations_lineage_id_file_lineages FOREIGN KEY(lineage_id)
		REFERENCES file_lineages (id) ON DELETE CASCADE,
	CONSTRAINT fk_file_generations_image_id_images FOREIGN KEY(image_id)
		REFERENCES images (id) ON DELETE CASCADE,
	CONSTRAINT ck_file_generations_origin CHECK ((image_id IS NULL) <> (snapshot_name IS NULL))
);
CREATE TABLE file_names (
	id INTEGER NOT NULL,
	hash INTEGER NOT NULL,
	name TEXT NOT NULL,
	CONSTRAINT pk_file_names PRIMARY KEY (id)
);
CREATE INDEX ix_file_names_hash ON file_names (hash);
CREATE VIRTUAL TABLE file_name_trigrams USING fts5(
	name, content='', detail=none, columnsize=0, tokenize='trigram'
);
CREATE TABLE file_directories (
	id INTEGER NOT NULL,
	parent_id INTEGER,
	name_id INTEGER,
	CONSTRAINT pk_file_directories PRIMARY KEY (id),
	CONSTRAINT uq_file_directories_parent_id_name_id UNIQUE (parent_id, name_id)
);
INSERT INTO file_directories VALUES (1, NULL, NULL);
CREATE TABLE file_versions (
	lineage_id INTEGER NOT NULL,
	directory_id INTEGER NOT NULL,
	name_id INTEGER NOT NULL,
	first_generation INTEGER NOT NULL,
	last_generation INTEGER,
	mode INTEGER NOT NULL,
	size_bytes BIGINT NOT NULL,
	mtime_ns BIGINT,
	inode BIGINT NOT NULL,
	flags INTEGER NOT NULL,
	sha256 BLOB,
	CONSTRAINT pk_file_versions
		PRIMARY KEY (lineage_id, directory_id, name_id, first_generation),
	CONSTRAINT fk_file_versions_lineage_id_file_lineages FOREIGN KEY(lineage_id)
		REFERENCES file_lineages (id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX ix_file_versions_name_id ON file_versions (name_id);
CREATE TABLE file_leftovers (
	directory_id INTEGER NOT NULL,
	name_id INTEGER NOT NULL,
	CONSTRAINT pk_file_leftovers PRIMARY KEY (directory_id, name_id)
) WITHOUT ROWID;
CREATE TABLE snapshots (
	generation_id INTEGER NOT NULL,
	source TEXT NOT NULL,
	source_kind TEXT NOT NULL,
	size_bytes BIGINT NOT NULL,
	state TEXT NOT NULL,
	has_hashes INTEGER NOT NULL,
	CONSTRAINT pk_snapshots PRIMARY KEY (generation_id),
	CONSTRAINT fk_snapshots_generation_id_file_generations FOREIGN KEY(generation_id)
		REFERENCES file_generations (id) ON DELETE CASCADE
);
CREATE TABLE snapshot_names (
	generation_id INTEGER NOT NULL,
	directory_id INTEGER NOT NULL,
	name_id INTEGER NOT NULL,
	inode BIGINT NOT NULL,
	CONSTRAINT pk_snapshot_names PRIMARY KEY (generation_id, directory_id, name_id),
	CONSTRAINT fk_snapshot_names_generation_id_snapshots FOREIGN KEY(generation_id)
		REFERENCES snapshots (generation_id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE snapshot_files (
	generation_id INTEGER NOT NULL,
	inode BIGINT NOT NULL,
	size_bytes BIGINT NOT NULL,
	runs BLOB,
	data BLOB,
	hashes BLOB,
	why TEXT,
	CONSTRAINT pk_snapshot_files PRIMARY KEY (generation_id, inode),
	CONSTRAINT fk_snapshot_files_generation_id_snapshots FOREIGN KEY(generation_id)
		REFERENCES snapshots (generation_id) ON DELETE CASCADE
) WITHOUT ROWID;
"""

_BEFORE = """coalesce((SELECT max(number) FROM file_generations
		WHERE lineage_id = OLD.lineage_id AND number < OLD.number), -1)"""
_BEHIND = """(SELECT min(number) FROM file_generations
		WHERE lineage_id = OLD.lineage_id AND number > OLD.number)"""
_SAME = """other.lineage_id = file_versions.lineage_id
			AND other.directory_id = file_versions.directory_id
			AND other.name_id = file_versions.name_id"""

_TRIGGERS = (
    """
CREATE TRIGGER file_generation_outdated AFTER UPDATE OF index_id ON images
WHEN OLD.index_id <> NEW.index_id
BEGIN
	DELETE FROM file_generations WHERE image_id = NEW.id;
END
""",
    f"""
CREATE TRIGGER file_generation_removed AFTER DELETE ON file_generations
BEGIN
	DELETE FROM file_versions
	WHERE lineage_id = OLD.lineage_id
		AND first_generation > {_BEFORE}
		AND ({_BEHIND} IS NULL OR last_generation < {_BEHIND});
	UPDATE file_versions SET last_generation = NULL
	WHERE lineage_id = OLD.lineage_id AND last_generation >= {_BEFORE}
		AND {_BEHIND} IS NULL;
	UPDATE file_versions SET last_generation = (
		SELECT other.last_generation FROM file_versions AS other
		WHERE {_SAME}
			AND other.first_generation > file_versions.last_generation
			AND other.first_generation <= {_BEHIND}
	)
	WHERE lineage_id = OLD.lineage_id
		AND last_generation >= {_BEFORE} AND last_generation < {_BEHIND}
		AND EXISTS (
			SELECT 1 FROM file_versions AS other
			WHERE {_SAME}
				AND other.first_generation > file_versions.last_generation
				AND other.first_generation <= {_BEHIND}
				AND other.mode = file_versions.mode
				AND other.size_bytes = file_versions.size_bytes
				AND other.mtime_ns IS file_versions.mtime_ns
		);
	DELETE FROM file_versions
	WHERE lineage_id = OLD.lineage_id
		AND first_generation > {_BEFORE} AND first_generation <= {_BEHIND}
		AND EXISTS (
			SELECT 1 FROM file_versions AS other
			WHERE {_SAME}
				AND other.first_generation < file_versions.first_generation
				AND (other.last_generation IS NULL
					OR other.last_generation >= file_versions.first_generation)
		);
	DELETE FROM file_lineages
	WHERE id = OLD.lineage_id AND NOT EXISTS (
		SELECT 1 FROM file_generations WHERE lineage_id = OLD.lineage_id
	);
END
""",
    """
CREATE TRIGGER file_version_removed AFTER DELETE ON file_versions
BEGIN
	INSERT OR IGNORE INTO file_leftovers VALUES (OLD.directory_id, OLD.name_id);
END
""",
)

_PATH = """(
	WITH RECURSIVE above(id, path, is_raw) AS (
		SELECT file_versions.directory_id, file_names.name, typeof(file_names.name) = 'blob'
		UNION ALL
		SELECT file_directories.parent_id, coalesce(names.name, '') || '/' || path,
			is_raw OR typeof(names.name) = 'blob'
		FROM above
		JOIN file_directories ON file_directories.id = above.id
		LEFT JOIN file_names AS names ON names.id = file_directories.name_id
	)
	SELECT CASE WHEN is_raw THEN CAST(path AS BLOB) ELSE path END FROM above WHERE id IS NULL
)"""
"""The path of a version from the root of its file system on: a BLOB where a name in it is one."""

_TYPE = """CASE mode >> 12 WHEN 8 THEN 'file' WHEN 4 THEN 'directory' WHEN 10 THEN 'symlink'
       WHEN 1 THEN 'fifo' WHEN 12 THEN 'socket' WHEN 2 THEN 'character device'
       WHEN 6 THEN 'block device' END"""

_MODIFIED = "strftime('%Y-%m-%dT%H:%M:%SZ', mtime_ns / 1000000000, 'unixepoch')"

_STANDS = """file_generations.lineage_id = file_versions.lineage_id
  AND file_generations.number >= file_versions.first_generation
  AND (file_versions.last_generation IS NULL
       OR file_generations.number <= file_versions.last_generation)"""

_SHA256 = "CASE WHEN sha256 IS NOT NULL THEN lower(hex(sha256)) END"

_NAME = "coalesce(images.name, file_generations.snapshot_name)"

_NAMES = rf"""json_group_array(CASE typeof({_NAME})
        WHEN 'blob' THEN '\x' || hex({_NAME}) ELSE {_NAME} END)"""

_VIEWS = (
    f"""
CREATE VIEW lineages AS
SELECT file_lineages.id, file_lineages.fs_type, fs_uuid, file_lineages.label, count(*) AS backups,
       min(taken_at) AS first_taken_at, max(taken_at) AS last_taken_at,
       max(file_count) AS most_files, {_NAMES} AS names
FROM file_lineages
JOIN file_generations ON file_generations.lineage_id = file_lineages.id
LEFT JOIN images ON images.id = file_generations.image_id
GROUP BY file_lineages.id
""",
    f"""
CREATE VIEW files AS
SELECT {_NAME} AS backup, taken_at, {_PATH} AS path, file_names.name,
       {_TYPE} AS type, mode & 4095 AS mode, file_versions.size_bytes,
       {_MODIFIED} AS modified, mtime_ns, inode, {_SHA256} AS sha256,
       file_versions.lineage_id
FROM file_generations
JOIN file_versions ON {_STANDS}
JOIN file_names ON file_names.id = file_versions.name_id
LEFT JOIN images ON images.id = file_generations.image_id
""",
    f"""
CREATE VIEW file_history AS
SELECT file_versions.lineage_id, {_PATH} AS path, file_names.name,
       {_TYPE} AS type, mode & 4095 AS mode, file_versions.size_bytes,
       {_MODIFIED} AS modified, mtime_ns, inode, {_SHA256} AS sha256,
       (SELECT {_NAMES} FROM file_generations
        LEFT JOIN images ON images.id = file_generations.image_id
        WHERE {_STANDS}) AS backups
FROM file_versions
JOIN file_names ON file_names.id = file_versions.name_id
""",
)


def upgrade() -> None:
    """Add the tables, what keeps them together, and views for people."""
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement.strip())
    for statement in (*_TRIGGERS, *_VIEWS):
        op.execute(statement.strip())
