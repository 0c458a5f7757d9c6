"""Models at work: who serves, and in which batches."""
