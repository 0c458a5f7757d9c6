"""The migrations make exactly the tables that the program describes, whole or not at all."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from finagent.adapters.database.engine import WriterPolicy
from finagent.adapters.database.migrate import downgrade, migrations_folder, pending, upgrade
from finagent.adapters.database.tables import VIEWS, metadata
from finagent.domain.errors import BadInput, Unavailable
from finagent.services.failpoints import unarmed


def schema(path: Path) -> dict[str, str]:
    """Name -> statement of everything but Alembic's own table, blanks folded."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'alembic%'").fetchall()
    connection.close()
    return {name: " ".join(sql.split()).replace('"', "") for name, sql in rows}


def test_the_migrations_make_the_tables_of_the_program(database: Path, tmp_path: Path) -> None:
    described = tmp_path / "described.db"
    engine = create_engine(f"sqlite:///{described}", poolclass=NullPool)
    metadata.create_all(engine)
    with engine.connect() as connection:
        for view in VIEWS.values():
            connection.exec_driver_sql(view)
        connection.commit()

    assert schema(database) == schema(described)
    assert len(schema(database)) > 40


def test_alembic_finds_nothing_to_add(database: Path) -> None:
    with create_engine(f"sqlite:///{database}", poolclass=NullPool).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_up_down_and_up_again(tmp_path: Path, policy: WriterPolicy) -> None:
    path = tmp_path / "finagent.db"
    assert pending(path, policy)
    upgrade(path, policy, unarmed)
    first = schema(path)
    assert not pending(path, policy)

    downgrade(path, policy, "base")
    assert schema(path) == {}
    upgrade(path, policy, unarmed)
    assert schema(path) == first


def test_a_second_upgrade_changes_nothing_and_keeps_the_rows(database: Path, policy: WriterPolicy) -> None:
    connection = sqlite3.connect(database)
    connection.execute("INSERT INTO meta VALUES ('epoch', 7)")
    connection.commit()
    labels: list[str] = []

    def passed(label: str) -> None:
        labels.append(label)

    upgrade(database, policy, passed)

    assert connection.execute("SELECT value FROM meta").fetchall() == [(7,)]
    connection.close()
    assert labels == ["migration.before", "migration.after"]


def test_a_store_of_a_newer_program_is_refused(database: Path, policy: WriterPolicy) -> None:
    connection = sqlite3.connect(database)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()

    with pytest.raises(BadInput, match=r"finagent\.db.*9999"):
        upgrade(database, policy, unarmed)


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path, policy: WriterPolicy) -> None:
    with pytest.raises(Unavailable, match=r"nowhere/finagent\.db"):
        upgrade(tmp_path / "nowhere" / "finagent.db", policy, unarmed)


KILLED_INSIDE = """
import os, signal, sys
from pathlib import Path
from alembic import op
from finagent.adapters.database.engine import WriterPolicy
from finagent.adapters.database.migrate import upgrade
from finagent.services.failpoints import unarmed

made = 0
create_table = op.create_table
def counted(*arguments, **keywords):
    global made
    made += 1
    if made == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return create_table(*arguments, **keywords)
op.create_table = counted
upgrade(Path(sys.argv[1]), WriterPolicy(1, 1000, 500, 0, 4096), unarmed)
"""


def test_a_process_killed_inside_leaves_the_old_schema(tmp_path: Path, policy: WriterPolicy) -> None:
    path = tmp_path / "finagent.db"

    child = subprocess.run([sys.executable, "-c", KILLED_INSIDE, str(path)], capture_output=True, timeout=60, check=False)

    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert schema(path) == {}
    upgrade(path, policy, unarmed)
    assert "job_queue" in schema(path)


def test_the_scripts_are_found_beside_the_sources() -> None:
    assert (migrations_folder() / "env.py").is_file()
    assert os.listdir(migrations_folder() / "versions")
