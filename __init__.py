"""imgcat: one catalog for all of your disk-image backups, every image a file in one mount."""

__version__ = "0.1.0"
