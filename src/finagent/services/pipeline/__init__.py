"""Scan, score, plan, risk, execute: each stage a durable job that commits what it found and publishes the next."""
