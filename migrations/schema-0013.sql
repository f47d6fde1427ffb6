-- A new catalog: what the revisions make, one after the other, of an empty database.
-- Written by `python tools/new_catalog.py > migrations/schema-0013.sql`.
-- The one before goes to tests/catalog when there is another.
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE indexes (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	kind TEXT NOT NULL, 
	total_units BIGINT NOT NULL, 
	created_at TEXT NOT NULL
, content_key BIGINT DEFAULT 0 NOT NULL, sealed_at TEXT, digest BLOB);

CREATE TABLE rank_chunks (
	index_id INTEGER NOT NULL, 
	chunk INTEGER NOT NULL, 
	rank BIGINT NOT NULL, 
	bitmap BLOB NOT NULL, 
	CONSTRAINT pk_rank_chunks PRIMARY KEY (index_id, chunk), 
	CONSTRAINT fk_rank_chunks_index_id_indexes FOREIGN KEY(index_id) REFERENCES indexes (id) ON DELETE CASCADE
);

CREATE TABLE volumes (
	image_id INTEGER NOT NULL, 
	ordinal INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	mtime_ns BIGINT NOT NULL, 
	inode BIGINT NOT NULL, 
	mode INTEGER NOT NULL, 
	uid INTEGER NOT NULL, 
	gid INTEGER NOT NULL, stream INTEGER DEFAULT 0 NOT NULL, role TEXT DEFAULT 'image' NOT NULL, 
	CONSTRAINT pk_volumes PRIMARY KEY (image_id, ordinal), 
	CONSTRAINT fk_volumes_image_id_images FOREIGN KEY(image_id) REFERENCES images (id) ON DELETE CASCADE
);

CREATE TABLE cluster_ranges (
	index_id INTEGER NOT NULL, 
	first_cluster BIGINT NOT NULL, 
	cluster_count BIGINT NOT NULL, 
	source_offset BIGINT NOT NULL, 
	CONSTRAINT pk_cluster_ranges PRIMARY KEY (index_id, first_cluster), 
	CONSTRAINT fk_cluster_ranges_index_id_indexes FOREIGN KEY(index_id) REFERENCES indexes (id) ON DELETE CASCADE
)
 WITHOUT ROWID;

CREATE TABLE bad_ranges (
	image_id INTEGER NOT NULL, 
	ordinal INTEGER NOT NULL, 
	start_byte BIGINT, 
	stop_byte BIGINT, 
	detail TEXT NOT NULL, 
	CONSTRAINT pk_bad_ranges PRIMARY KEY (image_id, ordinal), 
	CONSTRAINT fk_bad_ranges_image_id_images FOREIGN KEY(image_id) REFERENCES images (id) ON DELETE CASCADE
);

CREATE TABLE streams (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	index_id INTEGER NOT NULL, 
	ordinal INTEGER NOT NULL, 
	codec TEXT NOT NULL, 
	library TEXT NOT NULL, 
	index_version INTEGER NOT NULL, 
	plain_bytes BIGINT NOT NULL, 
	stored_bytes BIGINT NOT NULL, 
	span_bytes BIGINT NOT NULL, trusted_bytes BIGINT DEFAULT 0 NOT NULL, 
	CONSTRAINT fk_streams_index_id_indexes FOREIGN KEY(index_id) REFERENCES indexes (id) ON DELETE CASCADE, 
	CONSTRAINT uq_streams_index_id_ordinal UNIQUE (index_id, ordinal)
);

CREATE TABLE seek_points (
	stream_id INTEGER NOT NULL, 
	plain_offset BIGINT NOT NULL, 
	stored_offset BIGINT NOT NULL, 
	state INTEGER NOT NULL, 
	window_bytes INTEGER NOT NULL, 
	window BLOB NOT NULL, 
	CONSTRAINT pk_seek_points PRIMARY KEY (stream_id, plain_offset), 
	CONSTRAINT fk_seek_points_stream_id_streams FOREIGN KEY(stream_id) REFERENCES streams (id) ON DELETE CASCADE
);

CREATE TABLE page_hashes (
	stream_id INTEGER NOT NULL, 
	page_group INTEGER NOT NULL, 
	hashes BLOB NOT NULL, 
	CONSTRAINT pk_page_hashes PRIMARY KEY (stream_id, page_group), 
	CONSTRAINT fk_page_hashes_stream_id_streams FOREIGN KEY(stream_id) REFERENCES streams (id) ON DELETE CASCADE
);

CREATE TABLE image_directories (
	id INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	name TEXT NOT NULL, 
	clonezilla_version TEXT, 
	saved_at TEXT, 
	is_broken INTEGER NOT NULL, 
	scanned_at TEXT NOT NULL, 
	CONSTRAINT pk_image_directories PRIMARY KEY (id), 
	CONSTRAINT uq_image_directories_path UNIQUE (path)
);

CREATE TABLE directory_images (
	directory_id INTEGER NOT NULL, 
	role TEXT NOT NULL, 
	device TEXT NOT NULL, 
	image_id INTEGER NOT NULL, 
	CONSTRAINT pk_directory_images PRIMARY KEY (directory_id, role, device), 
	CONSTRAINT fk_directory_images_directory_id_image_directories FOREIGN KEY(directory_id) REFERENCES image_directories (id) ON DELETE CASCADE, 
	CONSTRAINT fk_directory_images_image_id_images FOREIGN KEY(image_id) REFERENCES images (id) ON DELETE CASCADE
);

CREATE TABLE directory_facts (
	directory_id INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	ordinal INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	detail JSON NOT NULL, 
	CONSTRAINT pk_directory_facts PRIMARY KEY (directory_id, kind, ordinal), 
	CONSTRAINT fk_directory_facts_directory_id_image_directories FOREIGN KEY(directory_id) REFERENCES image_directories (id) ON DELETE CASCADE
);

CREATE INDEX ix_directory_images_image_id ON directory_images (image_id);

CREATE TABLE segments (
	index_id INTEGER NOT NULL, 
	start_byte BIGINT NOT NULL, 
	stop_byte BIGINT NOT NULL, 
	child_name TEXT, 
	child_id INTEGER, 
	child_key BIGINT, 
	child_offset BIGINT, 
	literal BLOB, stripes JSON, 
	CONSTRAINT pk_segments PRIMARY KEY (index_id, start_byte), 
	CONSTRAINT fk_segments_index_id_indexes FOREIGN KEY(index_id) REFERENCES indexes (id) ON DELETE CASCADE, 
	CONSTRAINT fk_segments_child_id_images FOREIGN KEY(child_id) REFERENCES images (id) ON DELETE SET NULL, 
	CONSTRAINT ck_segments_content CHECK (stop_byte > start_byte AND (literal IS NULL) <> (child_name IS NULL))
);

CREATE INDEX ix_segments_child_id ON segments (child_id);

CREATE TABLE identity (
	id INTEGER NOT NULL, 
	"key" BIGINT NOT NULL, is_portable INTEGER DEFAULT 0 NOT NULL, transactions INTEGER DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_identity PRIMARY KEY (id), 
	CONSTRAINT ck_identity_one CHECK (id = 1)
);

CREATE TABLE seals (
	index_id INTEGER NOT NULL, 
	page_group INTEGER NOT NULL, 
	hashes BLOB NOT NULL, 
	CONSTRAINT pk_seals PRIMARY KEY (index_id, page_group), 
	CONSTRAINT fk_seals_index_id_indexes FOREIGN KEY(index_id) REFERENCES indexes (id) ON DELETE CASCADE
);

CREATE INDEX ix_indexes_digest ON indexes (digest);

CREATE TABLE map_chunks (
	index_id INTEGER NOT NULL, 
	chunk INTEGER NOT NULL, 
	runs BLOB NOT NULL, 
	CONSTRAINT pk_map_chunks PRIMARY KEY (index_id, chunk), 
	CONSTRAINT fk_map_chunks_index_id_indexes FOREIGN KEY(index_id) REFERENCES indexes (id) ON DELETE CASCADE
);

CREATE TABLE "images" (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    path TEXT,
    format TEXT NOT NULL,
    format_version TEXT NOT NULL,
    creator TEXT,
    fs_type TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    block_size INTEGER NOT NULL,
    total_blocks BIGINT NOT NULL,
    used_blocks BIGINT NOT NULL,
    used_bytes BIGINT NOT NULL,
    stored_bytes BIGINT NOT NULL,
    compression TEXT,
    volume_count INTEGER NOT NULL,
    checksum TEXT NOT NULL,
    status TEXT NOT NULL,
    status_detail TEXT,
    warnings JSON NOT NULL,
    header JSON NOT NULL,
    layout JSON NOT NULL,
    fingerprint BLOB NOT NULL,
    index_id INTEGER NOT NULL,
    added_at TEXT NOT NULL,
    scanned_at TEXT NOT NULL,
    scan_seconds FLOAT NOT NULL,
    verified_at TEXT,
    verify_result TEXT,
    verify_detail TEXT,
    content TEXT DEFAULT 'full' NOT NULL,
    parent_id INTEGER, looked_at TEXT, status_before TEXT, detail_before TEXT,
    CONSTRAINT ck_images_status CHECK (status IN
        ('ready', 'stale', 'missing', 'damaged', 'failed', 'needs-repack', 'live')),
    CONSTRAINT fk_images_index_id_indexes FOREIGN KEY(index_id) REFERENCES indexes (id),
    CONSTRAINT fk_images_parent_id_images FOREIGN KEY(parent_id) REFERENCES images (id)
        ON DELETE CASCADE,
    CONSTRAINT uq_images_name UNIQUE (name),
    CONSTRAINT uq_images_path UNIQUE (path)
);

CREATE INDEX ix_images_fingerprint ON images (fingerprint);

CREATE INDEX ix_images_index_id ON images (index_id);

CREATE VIEW shelf AS
SELECT images.id, name, format, fs_type,
       round(size_bytes / 1073741824.0, 2) AS size_gib,
       round(used_bytes / 1073741824.0, 2) AS used_gib,
       round(stored_bytes / 1073741824.0, 2) AS stored_gib,
       CASE WHEN size_bytes > 0 THEN round(100.0 * used_bytes / size_bytes, 1) END AS used_percent,
       status, scanned_at, verified_at, verify_result, sealed_at, path
FROM images JOIN indexes ON indexes.id = images.index_id;

CREATE VIEW directories AS
SELECT CASE WHEN instr(path, '/') = 0 THEN ''
            WHEN typeof(path) = 'blob'
            THEN CAST(rtrim(path, replace(path, '/', '')) AS BLOB)
            ELSE rtrim(path, replace(path, '/', '')) END AS directory,
       count(*) AS images,
       CAST(total(size_bytes) AS INTEGER) AS size_bytes,
       CAST(total(used_bytes) AS INTEGER) AS used_bytes,
       CAST(total(stored_bytes) AS INTEGER) AS stored_bytes
FROM images WHERE path IS NOT NULL GROUP BY 1;

CREATE INDEX ix_images_parent_id ON images (parent_id);

CREATE TABLE partition_tables (
	disk_id INTEGER NOT NULL, 
	scheme TEXT NOT NULL, 
	uuid TEXT, 
	sector_size INTEGER NOT NULL, 
	CONSTRAINT pk_partition_tables PRIMARY KEY (disk_id), 
	CONSTRAINT fk_partition_tables_disk_id_images FOREIGN KEY(disk_id) REFERENCES images (id) ON DELETE CASCADE
);

CREATE TABLE partitions (
	disk_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	start_byte BIGINT NOT NULL, 
	stop_byte BIGINT NOT NULL, 
	type TEXT NOT NULL, 
	type_name TEXT, 
	uuid TEXT, 
	label TEXT, 
	is_bootable INTEGER NOT NULL, 
	is_container INTEGER NOT NULL, 
	image_id INTEGER, 
	CONSTRAINT pk_partitions PRIMARY KEY (disk_id, number), 
	CONSTRAINT fk_partitions_disk_id_images FOREIGN KEY(disk_id) REFERENCES images (id) ON DELETE CASCADE, 
	CONSTRAINT fk_partitions_image_id_images FOREIGN KEY(image_id) REFERENCES images (id) ON DELETE SET NULL
);

CREATE INDEX ix_partitions_image_id ON partitions (image_id);

CREATE TABLE file_systems (
	image_id INTEGER NOT NULL, 
	type TEXT NOT NULL, 
	uuid TEXT, 
	label TEXT, 
	block_size INTEGER, 
	size_bytes BIGINT, 
	features JSON NOT NULL, 
	journal TEXT NOT NULL, 
	is_dirty INTEGER NOT NULL, 
	written_at TEXT, 
	detail JSON NOT NULL, 
	CONSTRAINT pk_file_systems PRIMARY KEY (image_id), 
	CONSTRAINT fk_file_systems_image_id_images FOREIGN KEY(image_id) REFERENCES images (id) ON DELETE CASCADE
);

CREATE INDEX ix_file_systems_uuid ON file_systems (uuid);

CREATE VIEW partition_list AS
SELECT disks.name AS disk, partitions.number, partitions.start_byte, partitions.stop_byte,
       partitions.type, partitions.type_name, partitions.uuid, partitions.label,
       images.name AS image, file_systems.type AS fs_type, file_systems.uuid AS fs_uuid,
       file_systems.label AS fs_label, file_systems.journal
FROM partitions
JOIN images AS disks ON disks.id = partitions.disk_id
LEFT JOIN images ON images.id = partitions.image_id
LEFT JOIN file_systems ON file_systems.image_id = partitions.image_id;

CREATE VIEW totals AS
SELECT count(*) AS images,
       CAST(total(size_bytes) FILTER (WHERE path IS NOT NULL) AS INTEGER) AS size_bytes,
       CAST(total(used_bytes) FILTER (WHERE path IS NOT NULL) AS INTEGER) AS used_bytes,
       CAST(total(stored_bytes) FILTER (WHERE path IS NOT NULL) AS INTEGER) AS stored_bytes,
       count(*) FILTER (WHERE status NOT IN ('ready', 'live')) AS not_ready,
       count(*) FILTER (WHERE verified_at IS NULL AND path IS NOT NULL AND status <> 'live')
       AS never_verified
FROM images;

CREATE VIEW attention AS
SELECT id, name, status AS what, status_detail AS detail, path FROM images
WHERE status NOT IN ('ready', 'live')
UNION ALL
SELECT id, name, 'verify ' || verify_result, verify_detail, path FROM images
WHERE verify_result <> 'ok'
UNION ALL
SELECT images.id, images.name, 'warning', warning.value, images.path
FROM images, json_each(images.warnings) AS warning;

CREATE INDEX ix_volumes_size_bytes_mtime_ns_inode ON volumes (size_bytes, mtime_ns, inode);

CREATE TABLE passed_over (
	path TEXT NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	mtime_ns BIGINT NOT NULL, 
	inode BIGINT NOT NULL, 
	code INTEGER NOT NULL, 
	reason TEXT NOT NULL, 
	since TEXT NOT NULL, 
	CONSTRAINT pk_passed_over PRIMARY KEY (path)
);

CREATE TABLE verify_stages (
	image_id INTEGER NOT NULL, 
	index_id INTEGER NOT NULL, 
	files JSON NOT NULL, 
	reached BIGINT NOT NULL, 
	bad_count INTEGER NOT NULL, 
	found JSON NOT NULL, 
	done_blocks BLOB, 
	hashes BLOB, 
	stopped_at TEXT NOT NULL, 
	CONSTRAINT pk_verify_stages PRIMARY KEY (image_id), 
	CONSTRAINT fk_verify_stages_image_id_images FOREIGN KEY(image_id) REFERENCES images (id) ON DELETE CASCADE
);

CREATE TABLE worker_failures (
	id INTEGER NOT NULL, 
	image_id INTEGER NOT NULL, 
	index_id INTEGER NOT NULL, 
	failed_at TEXT NOT NULL, 
	fs_type TEXT NOT NULL, 
	question TEXT NOT NULL, 
	ending TEXT NOT NULL, 
	CONSTRAINT pk_worker_failures PRIMARY KEY (id), 
	CONSTRAINT fk_worker_failures_image_id_images FOREIGN KEY(image_id) REFERENCES images (id) ON DELETE CASCADE, 
	CONSTRAINT fk_worker_failures_index_id_indexes FOREIGN KEY(index_id) REFERENCES indexes (id) ON DELETE CASCADE
);

CREATE INDEX ix_worker_failures_image_id ON worker_failures (image_id);

CREATE INDEX ix_worker_failures_index_id ON worker_failures (index_id);

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

CREATE TRIGGER file_generation_outdated AFTER UPDATE OF index_id ON images
WHEN OLD.index_id <> NEW.index_id
BEGIN
	DELETE FROM file_generations WHERE image_id = NEW.id;
END;

CREATE TRIGGER file_generation_removed AFTER DELETE ON file_generations
BEGIN
	DELETE FROM file_versions
	WHERE lineage_id = OLD.lineage_id
		AND first_generation > coalesce((SELECT max(number) FROM file_generations
		WHERE lineage_id = OLD.lineage_id AND number < OLD.number), -1)
		AND ((SELECT min(number) FROM file_generations
		WHERE lineage_id = OLD.lineage_id AND number > OLD.number) IS NULL OR last_generation < (SELECT min(number) FROM file_generations
		WHERE lineage_id = OLD.lineage_id AND number > OLD.number));
	UPDATE file_versions SET last_generation = NULL
	WHERE lineage_id = OLD.lineage_id AND last_generation >= coalesce((SELECT max(number) FROM file_generations
		WHERE lineage_id = OLD.lineage_id AND number < OLD.number), -1)
		AND (SELECT min(number) FROM file_generations
		WHERE lineage_id = OLD.lineage_id AND number > OLD.number) IS NULL;
	UPDATE file_versions SET last_generation = (
		SELECT other.last_generation FROM file_versions AS other
		WHERE other.lineage_id = file_versions.lineage_id
			AND other.directory_id = file_versions.directory_id
			AND other.name_id = file_versions.name_id
			AND other.first_generation > file_versions.last_generation
			AND other.first_generation <= (SELECT min(number) FROM file_generations
		WHERE lineage_id = OLD.lineage_id AND number > OLD.number)
	)
	WHERE lineage_id = OLD.lineage_id
		AND last_generation >= coalesce((SELECT max(number) FROM file_generations
		WHERE lineage_id = OLD.lineage_id AND number < OLD.number), -1) AND last_generation < (SELECT min(number) FROM file_generations
		WHERE lineage_id = OLD.lineage_id AND number > OLD.number)
		AND EXISTS (
			SELECT 1 FROM file_versions AS other
			WHERE other.lineage_id = file_versions.lineage_id
			AND other.directory_id = file_versions.directory_id
			AND other.name_id = file_versions.name_id
				AND other.first_generation > file_versions.last_generation
				AND other.first_generation <= (SELECT min(number) FROM file_generations
		WHERE lineage_id = OLD.lineage_id AND number > OLD.number)
				AND other.mode = file_versions.mode
				AND other.size_bytes = file_versions.size_bytes
				AND other.mtime_ns IS file_versions.mtime_ns
		);
	DELETE FROM file_versions
	WHERE lineage_id = OLD.lineage_id
		AND first_generation > coalesce((SELECT max(number) FROM file_generations
		WHERE lineage_id = OLD.lineage_id AND number < OLD.number), -1) AND first_generation <= (SELECT min(number) FROM file_generations
		WHERE lineage_id = OLD.lineage_id AND number > OLD.number)
		AND EXISTS (
			SELECT 1 FROM file_versions AS other
			WHERE other.lineage_id = file_versions.lineage_id
			AND other.directory_id = file_versions.directory_id
			AND other.name_id = file_versions.name_id
				AND other.first_generation < file_versions.first_generation
				AND (other.last_generation IS NULL
					OR other.last_generation >= file_versions.first_generation)
		);
	DELETE FROM file_lineages
	WHERE id = OLD.lineage_id AND NOT EXISTS (
		SELECT 1 FROM file_generations WHERE lineage_id = OLD.lineage_id
	);
END;

CREATE TRIGGER file_version_removed AFTER DELETE ON file_versions
BEGIN
	INSERT OR IGNORE INTO file_leftovers VALUES (OLD.directory_id, OLD.name_id);
END;

CREATE VIEW lineages AS
SELECT file_lineages.id, file_lineages.fs_type, fs_uuid, file_lineages.label, count(*) AS backups,
       min(taken_at) AS first_taken_at, max(taken_at) AS last_taken_at,
       max(file_count) AS most_files, json_group_array(CASE typeof(coalesce(images.name, file_generations.snapshot_name))
        WHEN 'blob' THEN '\x' || hex(coalesce(images.name, file_generations.snapshot_name)) ELSE coalesce(images.name, file_generations.snapshot_name) END) AS names
FROM file_lineages
JOIN file_generations ON file_generations.lineage_id = file_lineages.id
LEFT JOIN images ON images.id = file_generations.image_id
GROUP BY file_lineages.id;

CREATE TABLE file_hashes (
	generation_id INTEGER NOT NULL,
	directory_id INTEGER NOT NULL,
	name_id INTEGER NOT NULL,
	sha256 BLOB NOT NULL,
	CONSTRAINT pk_file_hashes PRIMARY KEY (generation_id, directory_id, name_id),
	CONSTRAINT fk_file_hashes_generation_id_file_generations FOREIGN KEY(generation_id)
		REFERENCES file_generations (id) ON DELETE CASCADE
) WITHOUT ROWID;

CREATE VIEW files AS
SELECT coalesce(images.name, file_generations.snapshot_name) AS backup, taken_at, (
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
) AS path, file_names.name,
       CASE mode >> 12 WHEN 8 THEN 'file' WHEN 4 THEN 'directory' WHEN 10 THEN 'symlink'
       WHEN 1 THEN 'fifo' WHEN 12 THEN 'socket' WHEN 2 THEN 'character device'
       WHEN 6 THEN 'block device' END AS type, mode & 4095 AS mode, file_versions.size_bytes,
       strftime('%Y-%m-%dT%H:%M:%SZ', mtime_ns / 1000000000, 'unixepoch') AS modified, mtime_ns, inode,
       CASE WHEN sha256 IS NOT NULL THEN lower(hex(sha256)) END AS sha256,
       file_versions.lineage_id
FROM file_generations
JOIN file_versions ON file_generations.lineage_id = file_versions.lineage_id
  AND file_generations.number >= file_versions.first_generation
  AND (file_versions.last_generation IS NULL
       OR file_generations.number <= file_versions.last_generation)
JOIN file_names ON file_names.id = file_versions.name_id
LEFT JOIN images ON images.id = file_generations.image_id
LEFT JOIN file_hashes ON file_hashes.generation_id = file_generations.id
  AND file_hashes.directory_id = file_versions.directory_id
  AND file_hashes.name_id = file_versions.name_id;

CREATE VIEW file_history AS
SELECT file_versions.lineage_id, (
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
) AS path, file_names.name,
       CASE mode >> 12 WHEN 8 THEN 'file' WHEN 4 THEN 'directory' WHEN 10 THEN 'symlink'
       WHEN 1 THEN 'fifo' WHEN 12 THEN 'socket' WHEN 2 THEN 'character device'
       WHEN 6 THEN 'block device' END AS type, mode & 4095 AS mode, file_versions.size_bytes,
       strftime('%Y-%m-%dT%H:%M:%SZ', mtime_ns / 1000000000, 'unixepoch') AS modified, mtime_ns, inode,
       (SELECT CASE count(DISTINCT sha256) WHEN 1 THEN lower(hex(sha256)) END
        FROM file_generations JOIN file_hashes ON file_hashes.generation_id = file_generations.id
  AND file_hashes.directory_id = file_versions.directory_id
  AND file_hashes.name_id = file_versions.name_id
        WHERE file_generations.lineage_id = file_versions.lineage_id
  AND file_generations.number >= file_versions.first_generation
  AND (file_versions.last_generation IS NULL
       OR file_generations.number <= file_versions.last_generation)) AS sha256,
       (SELECT json_group_array(CASE typeof(coalesce(images.name, file_generations.snapshot_name))
        WHEN 'blob' THEN '\x' || hex(coalesce(images.name, file_generations.snapshot_name)) ELSE coalesce(images.name, file_generations.snapshot_name) END) FROM file_generations
        LEFT JOIN images ON images.id = file_generations.image_id
        WHERE file_generations.lineage_id = file_versions.lineage_id
  AND file_generations.number >= file_versions.first_generation
  AND (file_versions.last_generation IS NULL
       OR file_generations.number <= file_versions.last_generation)) AS backups
FROM file_versions
JOIN file_names ON file_names.id = file_versions.name_id;

INSERT INTO alembic_version (version_num) VALUES ('0013');

INSERT INTO identity (id, key, is_portable, transactions) VALUES (1, random(), 0, 0);

INSERT INTO file_directories (id, parent_id, name_id) VALUES (1, NULL, NULL);
