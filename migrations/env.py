"""Runs the migrations: on the connection of the program, or for a developer on `-x database=PATH` (default var/finagent.db)."""

from alembic import context
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from finagent.adapters.database.tables import metadata


def run(connection: Connection) -> None:
    # SQLite can change its schema inside a transaction: a process that dies in a migration leaves the old schema whole.
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transactional_ddl=True,
        render_as_batch=True,
        on_version_apply=context.config.attributes.get("stepped", ()),  # told after each step, before the COMMIT
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    database = context.get_x_argument(as_dictionary=True).get("database", "var/finagent.db")
    with create_engine(f"sqlite:///{database}", poolclass=NullPool).connect() as own:
        run(own)
