"""Every record that a table keeps comes back equal, through a real table."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from math import inf, isnan, nan
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from finagent.adapters.database.codec import canonical_json, column_codec, json_codec
from finagent.adapters.database.engine import WriterPolicy
from finagent.adapters.database.migrate import upgrade
from finagent.adapters.database.registry import RECORD_TABLES, stored
from finagent.domain.decision import DecisionEvent
from finagent.domain.errors import BadInput
from finagent.domain.jobs import Job
from finagent.domain.orders import Side
from finagent.services.failpoints import unarmed

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    Decimal: st.decimals(-(10**12), 10**12, allow_nan=False, places=9),
    datetime: st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis wants naive bounds
    date: st.dates(date(1990, 1, 1), date(2100, 1, 1)),
    Any: JSON_VALUES,
}


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type."""
    if hint in SCALARS:
        return SCALARS[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return st.one_of(*(st.none() if part is type(None) else values_of(part) for part in arguments))
    if origin is tuple:
        inner = st.floats(allow_nan=False) if arguments[0] is float else values_of(arguments[0])
        return st.lists(inner, max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(TEXT, values_of(arguments[1]), max_size=3)
    if is_dataclass(hint):
        return records(hint)
    assert issubclass(hint, Enum)
    return st.sampled_from(list(hint))


@st.composite
def records(draw: st.DrawFn, record_type: Any) -> Any:
    """Any record that its own rules let exist."""
    hints = get_type_hints(record_type)
    given_values = {field.name: draw(values_of(hints[field.name])) for field in fields(record_type)}
    for name, lawful in LAWFUL.get(record_type.__name__, {}).items():
        given_values[name] = draw(lawful)
    try:
        return record_type(**given_values)
    except BadInput:
        return assume(False)


POSITIVE = st.integers(1, 10**9)
PRICE = st.decimals(Decimal("0.01"), 10**6, places=4)
LAWFUL: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "Fill": {"quantity": POSITIVE, "price": PRICE},
    "OrderIntent": {"quantity": POSITIVE},
    "TradePlan": {
        "quantity": POSITIVE,
        "side": st.just(Side.BUY),
        "stop": st.decimals(1, 2, places=4),
        "entry": st.decimals(3, 4, places=4),
        "entry_limit": st.decimals(4, 5, places=4),
        "target": st.decimals(6, 7, places=4),
    },
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A migrated store whose foreign keys are not watched: each record stands for itself."""
    path: Path = tmp_path_factory.mktemp("codec") / "finagent.db"
    upgrade(path, WriterPolicy(1, 1000, 500, 0, 4096), unarmed)
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


@pytest.mark.parametrize(
    "record_type", [kind for kind in RECORD_TABLES if stored(kind).insertable], ids=lambda kind: kind.__name__
)
@given(data=st.data())
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]
)
def test_a_record_comes_back_from_its_table(record_type: type[Any], table: sqlite3.Connection, data: st.DataObject) -> None:
    record = data.draw(records(record_type))
    kept = stored(record_type)
    table.execute("BEGIN")
    try:
        table.execute(*kept.insert(record))
        key = [kept.codec.encode_column(name, getattr(record, name)) for name in kept.key]
        (row,) = table.execute(kept.get_sql, key).fetchall()
    finally:
        table.execute("ROLLBACK")

    assert kept.codec.decode(row) == record


@pytest.mark.parametrize("record_type", [DecisionEvent, Job])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_record_that_the_store_writes_itself_can_be_read_as_it_was(record_type: type[Any], data: st.DataObject) -> None:
    record = data.draw(records(record_type))
    codec = stored(record_type).codec

    assert codec.decode(codec.encode(record)) == record
    with pytest.raises(BadInput, match="written by the store itself"):
        stored(record_type).insert(record)


@given(JSON_VALUES)
def test_canonical_json_is_one_text_a_value(value: Any) -> None:
    text = canonical_json(value)

    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text
    assert text.isascii()


@given(st.lists(st.floats(), max_size=6).map(tuple))
def test_features_keep_every_float(values: tuple[float, ...]) -> None:
    codec = column_codec(tuple[float, ...])

    back = codec.decode(codec.encode(values))

    assert [repr(each) for each in back] == [repr(each) for each in values]


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_column_refuses_what_is_no_number(value: float) -> None:
    with pytest.raises(BadInput, match="not a finite number"):
        column_codec(float).encode(value)
    with pytest.raises(BadInput):
        canonical_json({"value": value})
    assert isnan(value) == isnan(json_codec(float).decode(json_codec(float).encode(value)))


def test_scalars_inside_a_body_are_written_as_everywhere() -> None:
    body = {"side": Side.BUY, "price": Decimal("1.50"), "at": datetime(2008, 10, 1, 13, 35, tzinfo=UTC), "day": date(2008, 10, 1)}

    assert json.loads(canonical_json(body)) == {
        "side": "BUY",
        "price": "1.5",
        "at": "2008-10-01T13:35:00.000000Z",
        "day": "2008-10-01",
    }
    with pytest.raises(BadInput, match="object"):
        canonical_json({"thing": object()})


@pytest.mark.parametrize("hint", [int | str, list[int], tuple[int, int], dict[int, str], set[str]])
def test_a_type_without_a_form_is_refused_when_the_program_starts(hint: Any) -> None:
    with pytest.raises(TypeError):
        column_codec(hint)


def test_every_table_of_a_record_has_its_columns() -> None:
    for record_type, table_ in RECORD_TABLES.items():
        assert {field.name for field in fields(record_type)} <= set(table_.columns.keys()), record_type.__name__
