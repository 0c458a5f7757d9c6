"""How models learn: the rows they learn from, and training in steps that can be stopped and gone on with."""
