"""Kills a real agent on a simulated market, starts it again, and lets the independent checker say what came of it."""
