"""The order protocol: intent committed, sent once, outcome found out, exits guarded, truth reconciled."""
