"""Which files make an image, and new ones."""
