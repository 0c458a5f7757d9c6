"""Brokers: one technology a package, all behind OrderExecutionPort."""
