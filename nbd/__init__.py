"""Images as network block devices: what nbdkit asks of a catalog, and running nbdkit."""
