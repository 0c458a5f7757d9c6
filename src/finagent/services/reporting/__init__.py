"""What came of it: canonical rows, result figures, the report that a person reads."""
