"""The commands: thin faces that parse, call one service and show. Heavy imports stay inside the command that needs them."""
