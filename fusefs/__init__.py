"""The mount: every image of a catalog as a file, in one FUSE daemon."""
