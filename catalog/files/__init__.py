"""Every file of every image: a row for each version of it."""
