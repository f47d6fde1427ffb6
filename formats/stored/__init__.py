"""Reading by an index: blocks in the order of their ranks, clusters by their ranges."""
