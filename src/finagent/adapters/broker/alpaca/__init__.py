"""Orders at Alpaca: its SDK, and everything that a request may meet, behind OrderExecutionPort."""
