"""Why it happened: the story behind any id, from committed records alone."""
