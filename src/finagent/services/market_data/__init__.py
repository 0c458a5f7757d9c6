"""Market data on its way to the features."""
