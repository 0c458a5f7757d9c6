"""Bring the store to the schema of this program, in one transaction, before the writer opens it."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

import finagent
from finagent.adapters.database.engine import WriterPolicy, writer_engine
from finagent.domain.errors import BadInput, Unavailable
from finagent.services.failpoints import Failpoints, around
from finagent.telemetry.redaction import without_password

MIGRATION_LOCK = 716150  # of PostgreSQL's advisory locks: one program migrates at a time
_PACKAGE = Path(finagent.__file__).parent


def migrations_folder() -> Path:
    """Inside an installed wheel the scripts lie in the package, in a source tree beside `src`."""
    installed = _PACKAGE / "migrations"
    return installed if installed.is_dir() else _PACKAGE.parents[1] / "migrations"


def upgrade(path: Path, policy: WriterPolicy, failpoints: Failpoints, revision: str = "head") -> None:
    """Create the store or bring it up to `revision`; does nothing when it is there.

    Whole or not at all: a process that dies here leaves the old schema. Raises BadInput for a store of a newer program,
    Unavailable when the folder cannot be written or the disk is full.
    """

    def stepped(**_step: object) -> None:
        failpoints("migration_step.after")

    def act(config: Config) -> None:
        config.attributes["stepped"] = stepped
        command.upgrade(config, revision)

    with around(failpoints, "migration"):
        _migrate(path, policy, act)


def upgrade_postgres(url: str, failpoints: Failpoints, revision: str = "head") -> None:
    """The same on PostgreSQL; a second program that starts meanwhile waits for the first. Raises as `upgrade`, and BadInput where
    somebody takes part on tables that would change."""
    with around(failpoints, "migration"), ThreadPoolExecutor(1) as thread:  # the caller's thread may have a running loop
        thread.submit(asyncio.run, _upgrade_postgres(url, revision)).result()
    failpoints("migration.after")


async def _upgrade_postgres(url: str, revision: str) -> None:
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1), poolclass=NullPool)

    def act(connection: Connection) -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        config = _config(connection)
        present = MigrationContext.configure(connection).get_current_revision()
        scripts = ScriptDirectory.from_config(config)
        wanted = scripts.as_revision_number(revision)
        if present is not None and present != wanted and scripts.get_revision(present):
            _refuse_living(connection, f"{present} to {wanted}")
        command.upgrade(config, revision)

    try:
        async with engine.begin() as connection:
            await connection.run_sync(act)
    except CommandError as error:
        raise BadInput(f"database {without_password(url)} is not of this program's line of versions: {error}") from error
    except (DBAPIError, OSError) as error:
        raise Unavailable(f"cannot write the database {without_password(url)}: {getattr(error, 'orig', error)}") from error
    finally:
        await engine.dispose()


def _refuse_living(connection: Connection, way: str) -> None:
    """Whoever takes part on tables that are to change is of another build, which does not know them."""
    if connection.exec_driver_sql("SELECT to_regclass('lease')").scalar() is None:
        return
    living = connection.exec_driver_sql(
        "SELECT worker_id, until - extract(epoch FROM clock_timestamp()) FROM lease "
        "WHERE until >= extract(epoch FROM clock_timestamp()) AND (name = 'leader' OR services <> '') ORDER BY until DESC"
    ).first()
    if living is not None:
        raise BadInput(
            f"the tables are to go from version {way}, and {living[0]} of another build works on them: stop it "
            f"(its lease lasts another {living[1]:.0f} s), then start this one"
        )


def downgrade(path: Path, policy: WriterPolicy, revision: str) -> None:
    """Take the store back to an older revision ("base": no tables); a person's act."""
    _migrate(path, policy, lambda config: command.downgrade(config, revision))


def pending(path: Path, policy: WriterPolicy) -> bool:
    """Whether the store is not at the newest revision."""
    engine = writer_engine(path, policy)
    with engine.connect() as connection:
        present = MigrationContext.configure(connection).get_current_revision()
    engine.dispose()
    return present != ScriptDirectory.from_config(_config()).get_current_head()


def _migrate(path: Path, policy: WriterPolicy, act: Callable[[Config], None]) -> None:
    engine = writer_engine(path, policy)
    try:
        with engine.connect() as connection:
            act(_config(connection))
    except CommandError as error:
        raise BadInput(f"database {path} is not of this program's line of versions: {error}") from error
    except (DBAPIError, sqlite3.Error) as error:
        raise Unavailable(f"cannot write the database {path}: {getattr(error, 'orig', error)}") from error
    finally:
        engine.dispose()


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
