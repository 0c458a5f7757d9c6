"""Alpaca's market data: history over REST, the session at hand over REST and stream, behind MarketDataPort."""
