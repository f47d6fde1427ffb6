"""The room of raw images: the partition's bytes as they are."""
