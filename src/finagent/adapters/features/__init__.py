"""Features at rest: histories for training, and tables for people."""
