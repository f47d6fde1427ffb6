"""Which file system a volume holds, and in which state it was left."""
