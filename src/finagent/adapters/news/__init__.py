"""Where news come from."""
