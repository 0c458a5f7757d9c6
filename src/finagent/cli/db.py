"""`finagent db`: the store as a person looks after it."""

import typer

from finagent.cli.move import move

app = typer.Typer(no_args_is_help=True, help="The store: move it to another database.")
app.callback()(lambda: None)  # a group, also while it has one command
app.command(epilog="Example: finagent db move --to postgresql://finagent@db.example/finagent")(move)
