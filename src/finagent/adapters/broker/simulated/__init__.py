"""A broker of our own on simulated or recorded bars: another system, with its own ledger, code and process."""
