"""When things fire: cron entries in exchange time against the exchange calendar."""
