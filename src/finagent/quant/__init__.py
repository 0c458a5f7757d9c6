"""Numbers: pure functions over arrays; no asyncio, no files, no clock."""
