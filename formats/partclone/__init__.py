"""The partclone image format, versions 0001 and 0002."""
