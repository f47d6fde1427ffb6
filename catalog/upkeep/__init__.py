"""What keeps a shelf of images in order."""
