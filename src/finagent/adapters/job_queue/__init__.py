"""The durable queue of jobs and the effects that acknowledge them."""
