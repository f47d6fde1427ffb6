-- The rows of a catalog that imgcat made with schema 0001: one partclone image, verified.
PRAGMA application_id = 1229801283;
INSERT INTO "indexes" VALUES(1,'rank',9216,'2026-10-01T00:00:00Z');
INSERT INTO "rank_chunks" VALUES(1,0,0,X'28B52FFD64800315010078FFFF0700FEFF00FEFF0700FEFF3F000810003676B00E76D15165296DA76A7BB40DA89BCA26');
INSERT INTO "images" VALUES(1,'sda1','/backups/sda1.img','partclone','0002','0.3.23','EXTFS',9437184,1024,9216,1921,1967104,1968378,NULL,1,'crc32','ready',NULL,'[]','{"file_system": "EXTFS", "device_size": 9437184, "total_blocks": 9216, "used_blocks_superblock": 1921, "used_blocks_bitmap": 1921, "block_size": 1024, "image_format": "0002", "platform_bits": 64, "partclone_version": "0.3.23", "bitmap_mode": "BIT", "checksum_algorithm": "CRC32", "checksum_size": 4, "blocks_per_checksum": 1024, "reseed_checksum": true, "header_crc32": "cfb1bb02", "data_offset": 1266}','{"size": 9437184, "block_size": 1024, "total_blocks": 9216, "used_blocks": 1921, "data_offset": 1266, "group_size": 1048576, "checksum_size": 4}',X'2EBDECE3980DFDD4150FE6CCE9DD221A',1,'2026-10-01T00:00:00Z','2026-10-01T00:00:00Z',0.01,'2026-11-01T00:00:00Z','ok',NULL);
INSERT INTO "volumes" VALUES(1,0,'/backups/sda1.img',1968378,1,1,420,0,0);
INSERT INTO "alembic_version" VALUES('0001');
