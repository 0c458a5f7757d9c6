"""The words and rules of the trade: pure, frozen, validated. Standard library only (numpy in bars.py)."""
