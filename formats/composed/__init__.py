"""Images that are made of other images."""
