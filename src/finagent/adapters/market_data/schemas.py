"""Pandera schemas of daily and minute bars, checked on whole files; what they refuse is told by name.

Importing this module brings pandas and pandera (most of a second): only readers of files do.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pandera.pandas as pa

from finagent.domain.errors import BadInput

PRICES = ("open", "high", "low", "close")
COLUMNS = ("symbol", "timestamp", *PRICES, "volume")
ENCLOSES = "high and low enclose open and close"
DIRT = (ENCLOSES, "is a finite number", "greater_than(0)")  # of single prices
_SYMBOLS_NAMED_MAX = 5
_WHOLE_ROW = {ENCLOSES: "open, high, low, close", "multiple_fields_uniqueness": "symbol, timestamp"}
_WORDS = {
    ENCLOSES: "high and low do not enclose open and close",
    "multiple_fields_uniqueness": "duplicates",
    "not_nullable": "missing (NaN or empty)",
    "is a finite number": "not a finite number",
    "greater_than(0)": "not above zero",
    "greater_than_or_equal_to(0)": "negative",
    "str_length(1, None)": "empty",
    "is midnight in New York": "not midnight in New York (a daily bar carries midnight of its session there, in UTC)",
    "is a whole minute": "not a whole minute (a minute bar carries its start)",
}


def _finite() -> pa.Check:
    return pa.Check(lambda column: np.isfinite(column), name="is a finite number")


def _price() -> pa.Column:
    return pa.Column(float, [_finite(), pa.Check.gt(0)], nullable=False)


def _encloses(bars: pd.DataFrame) -> "pd.Series[bool]":
    return (bars["low"] <= bars[["open", "close"]].min(axis=1)) & (bars["high"] >= bars[["open", "close"]].max(axis=1))


def told_again(schema: pa.DataFrameSchema) -> pa.DataFrameSchema:
    """The same of bars that come again, with another `known_at`, when they are corrected."""
    again = schema.add_columns({"known_at": pa.Column(pd.DatetimeTZDtype("ns", "UTC"), nullable=True)})
    again.unique = ["symbol", "timestamp", "known_at"]
    return again


def _schema(name: str, on_grid: pa.Check) -> pa.DataFrameSchema:
    return pa.DataFrameSchema(
        {
            "symbol": pa.Column(str, pa.Check.str_length(min_value=1), nullable=False),
            "timestamp": pa.Column(pd.DatetimeTZDtype("ns", "UTC"), on_grid, nullable=False),
            **{price: _price() for price in PRICES},
            "volume": pa.Column(float, [_finite(), pa.Check.ge(0)], nullable=False),
        },
        checks=pa.Check(_encloses, name=ENCLOSES),
        unique=["symbol", "timestamp"],
        name=name,
    )


def _new_york_midnight(timestamps: "pd.Series[pd.Timestamp]") -> "pd.Series[bool]":
    local = timestamps.dt.tz_convert("America/New_York")
    return local == local.dt.normalize()


DAILY_BARS = _schema("daily bars", pa.Check(_new_york_midnight, name="is midnight in New York"))
MINUTE_BARS = _schema(
    "minute bars", pa.Check(lambda timestamps: timestamps == timestamps.dt.floor("min"), name="is a whole minute")
)


@dataclass(frozen=True, slots=True)
class Breach:
    """Rows that fail one check of one column: `rows` are positions in the frame that was validated."""

    column: str
    check: str
    rows: tuple[int, ...]


def unenclosed(bars: pd.DataFrame, schema: pa.DataFrameSchema, file: str, fraction_max: float) -> tuple[int, ...]:
    """Validate; the rows whose prices cannot be, dirt that real vendors deliver: not finite, not above zero, or outside high and
    low.

    Up to `fraction_max` of the rows that is for the caller to mark; beyond it, and for any other breach, the whole file is
    refused: BadInput with file, symbols, column, count and first time. The frame holds COLUMNS, numbers as float64, a RangeIndex.
    """
    breaches = breaches_of(bars, schema)
    fatal = [
        breach
        for breach in breaches
        if breach.column == "volume" or breach.check not in DIRT or len(breach.rows) > fraction_max * len(bars)
    ]
    if fatal:
        raise BadInput("; ".join(_told(breach, bars, file) for breach in fatal) + ". Correct or remove these rows")
    return tuple(row for breach in breaches for row in breach.rows)


def breaches_of(bars: pd.DataFrame, schema: pa.DataFrameSchema) -> tuple[Breach, ...]:
    """Every failed check with its rows, in order of the first row."""
    try:
        schema.validate(bars, lazy=True)
    except pa.errors.SchemaErrors as errors:
        rows: dict[tuple[str, str], set[int]] = {}
        for case in errors.failure_cases.itertuples():
            check = str(case.check)
            column = _WHOLE_ROW.get(check, str(case.column))
            rows.setdefault((column, check), set()).add(int(case.index))
        found = [Breach(column, check, tuple(sorted(places))) for (column, check), places in rows.items()]
        return tuple(sorted(found, key=lambda breach: (breach.rows[0], breach.column)))
    return ()


def require_columns(columns: list[str], file: str) -> None:
    """BadInput that names the columns that are not there."""
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise BadInput(f"{file}: no column {', '.join(missing)}; bars need the columns {', '.join(COLUMNS)}")


def _told(breach: Breach, bars: pd.DataFrame, file: str) -> str:
    rows = bars.iloc[list(breach.rows)]
    symbols = list(dict.fromkeys(rows["symbol"]))
    named = ", ".join(symbol or "''" for symbol in symbols[:_SYMBOLS_NAMED_MAX])
    more = f" and {len(symbols) - _SYMBOLS_NAMED_MAX} more" if len(symbols) > _SYMBOLS_NAMED_MAX else ""
    count = f"{len(breach.rows)} row{'s' if len(breach.rows) > 1 else ''}"
    words = _WORDS.get(breach.check, f"not true: {breach.check}")
    return f"{file}: {breach.column}: {words} in {count} of {named}{more}, first at {rows['timestamp'].min().isoformat()}"
