"""shell: a look into the structures of an image."""
