"""Models as packages on disk, their registry, and what serves them."""
