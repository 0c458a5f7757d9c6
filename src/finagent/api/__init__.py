"""The agent over HTTP: health and metrics for everybody on this machine, control over a socket for its owner."""
