"""A one-day trading agent for US equities that survives being killed anywhere."""
