"""What the agent says of itself: logs, metrics, the trace that ties them together, a watch over its event loop."""
