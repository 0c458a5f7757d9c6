"""Which kind of market it is."""
