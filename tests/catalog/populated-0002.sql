-- The rows of a catalog that imgcat made with schema 0002: an image of each format.
PRAGMA application_id = 1229801283;
INSERT INTO "alembic_version" VALUES('0002');
INSERT INTO "cluster_ranges" VALUES(1,0,3,57);
INSERT INTO "cluster_ranges" VALUES(1,5,2,1605);
INSERT INTO "cluster_ranges" VALUES(1,9,1,2640);
INSERT INTO "cluster_ranges" VALUES(1,17,1,3162);
INSERT INTO "cluster_ranges" VALUES(1,20,1,3684);
INSERT INTO "images" VALUES(1,'ntfs','/backups/ntfs.img','ntfsclone','10.1',NULL,'NTFS',10752,512,21,8,4096,4196,NULL,1,'none','ready',NULL,'[]','{"image_format": "10.1", "cluster_size": 512, "device_size": 10752, "clusters": 20, "clusters_in_use": 7, "data_offset": 56, "backup_boot_sector": true, "negative_gaps": 0}','{"size": 10752, "cluster_size": 512, "gap": 1, "known_clusters": 21, "stored_size": 4196}',X'7E2F45A65AA06128BEDA581972DE9B97',1,'2026-11-21T11:31:17Z','2026-11-21T11:31:17Z',0.003458,NULL,NULL,NULL,'full');
INSERT INTO "images" VALUES(2,'ext','/backups/ext.img','partimage','0.6','0.6.9','ext2fs',81920,512,160,120,61440,127872,NULL,1,'crc32','ready',NULL,'[]','{"filesystem": "ext2fs", "description": "", "original_device": "/dev/sdb3", "original_file": "backup.img", "creation_date": "2026-11-20T05:41:07", "hostname": "host\\xe9", "system": "Linux box 6.1 #1 x86_64", "partimage_version": "0.6.9", "compression_when_written": "none", "flags": 0, "partition_size": 81920, "boot_sectors": 0, "block_size": 512, "total_blocks": 160, "used_blocks": 120, "bitmap_size": 36, "bad_blocks": 0, "label": "a label", "data_offset": 49520}','{"size": 81920, "block_size": 512, "total_blocks": 160, "used_blocks": 120, "data_offset": 49520, "group_size": 65536, "checksum_size": 16, "partial_checksum": 0, "volume_header_size": 512}',X'CA35BA0C5E47F2CE63A8EBDDDAF273B1',2,'2026-11-21T11:31:17Z','2026-11-21T11:31:17Z',0.0059,NULL,NULL,NULL,'full');
INSERT INTO "images" VALUES(3,'clone','/backups/clone.img','partclone','0002','0.3.47','EXTFS',2048,64,32,24,1536,1686,NULL,1,'crc32','ready',NULL,'[]','{"file_system": "EXTFS", "device_size": 2048, "total_blocks": 32, "used_blocks_superblock": 24, "used_blocks_bitmap": 24, "block_size": 64, "image_format": "0002", "platform_bits": 64, "partclone_version": "0.3.47", "bitmap_mode": "BIT", "checksum_algorithm": "CRC32", "checksum_size": 4, "blocks_per_checksum": 3, "reseed_checksum": true, "header_crc32": "899baa17", "data_offset": 118}','{"size": 2048, "block_size": 64, "total_blocks": 32, "used_blocks": 24, "data_offset": 118, "group_size": 192, "checksum_size": 4, "partial_checksum": 4}',X'842D8EBFEE167F7F431EC51D3C04ABF0',3,'2026-11-21T11:31:17Z','2026-11-21T11:31:17Z',0.000663,NULL,NULL,NULL,'full');
INSERT INTO "indexes" VALUES(1,'ranges',21,'2026-11-21T11:31:17Z');
INSERT INTO "indexes" VALUES(2,'rank',160,'2026-11-21T11:31:17Z');
INSERT INTO "indexes" VALUES(3,'rank',32,'2026-11-21T11:31:17Z');
INSERT INTO "rank_chunks" VALUES(2,0,0,X'28B52FFD241445000010DDDD01001EC0027E282901');
INSERT INTO "rank_chunks" VALUES(3,0,0,X'28B52FFD2404210000DDDDDDDD9DCE1FE3');
INSERT INTO "volumes" VALUES(1,0,'/backups/ntfs.img',4196,1795260677436395887,2188127,420,0,0);
INSERT INTO "volumes" VALUES(2,0,'/backups/ext.img',127872,1795260677436514428,2188128,420,0,0);
INSERT INTO "volumes" VALUES(3,0,'/backups/clone.img',1686,1795260677436673956,2188130,420,0,0);
