"""What is copied in which order."""

import sqlite3
from itertools import islice

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table

from finagent.adapters.database.tables import metadata
from finagent.adapters.store_move.plan import OF_THE_STORE_ITSELF, Level, levels, moved_tables


def test_a_table_comes_behind_those_that_it_points_to() -> None:
    names = [table.name for table in moved_tables(metadata)]

    assert set(names) == metadata.tables.keys() - OF_THE_STORE_ITSELF
    for table in moved_tables(metadata):
        for key in table.foreign_keys:
            if key.column.table is not table:
                assert names.index(key.column.table.name) < names.index(table.name)


def test_a_chain_of_tables_in_the_wrong_order_is_put_right() -> None:
    described = MetaData()
    Table("a", described, Column("id", Integer, ForeignKey("b.id"), primary_key=True))
    Table("b", described, Column("id", Integer, ForeignKey("c.id"), primary_key=True))
    Table("c", described, Column("id", Integer, primary_key=True))

    assert [table.name for table in moved_tables(described)] == ["c", "b", "a"]


def test_a_table_that_points_to_itself_is_copied_level_by_level() -> None:
    """Keys against the direction of the references: 1 -> 2 -> 3, and 4 alone."""
    table = Table("node", MetaData(), Column("id", Integer, primary_key=True), Column("up", Integer, ForeignKey("node.id")))
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE node (id INTEGER PRIMARY KEY, up INTEGER)")
    connection.executemany("INSERT INTO node VALUES (?, ?)", [(1, 2), (2, 3), (3, None), (4, None)])
    copied = [connection.execute(*level.first(10)).fetchall() for level in islice(levels(table), 4)]
    connection.close()

    assert copied == [[(3, None), (4, None)], [(2, 3)], [(1, 2)], []]


@pytest.mark.parametrize("name", ["symbol_run", "job_queue"])
def test_every_other_table_is_one_level(name: str) -> None:
    table = metadata.tables[name]

    assert list(levels(table)) == [Level(table)]
