"""Models that score one kind of market."""
