"""Evaluation: what a model may learn from, how well it forecasts, and whether it may trade."""
