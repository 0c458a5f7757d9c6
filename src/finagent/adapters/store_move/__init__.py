"""Moving a whole store to another database: a plan of what is copied, the two ends, the copy, the proof that it is equal."""
