"""Features: what is computed from bars, point in time."""
