"""`python -m finagent.cli`, the same as `finagent`."""

from finagent.cli.app import main

main()
