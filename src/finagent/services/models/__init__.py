"""Models: what they learn from."""
