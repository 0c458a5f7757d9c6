"""Sources of market data: embedded sample, files, simulation."""
