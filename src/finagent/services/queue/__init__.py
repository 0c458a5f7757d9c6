"""Durable jobs at work."""
