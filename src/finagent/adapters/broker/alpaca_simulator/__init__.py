"""Alpaca's interface in front of the simulated broker: the same core and ledger, another face."""
