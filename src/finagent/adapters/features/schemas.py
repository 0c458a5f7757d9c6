"""Pandera schemas of tables of features, generated from their data spec.

Importing this module brings pandas and pandera (most of a second): only who writes tables does.
"""

import numpy as np
import pandas as pd
import pandera.pandas as pa

from finagent.domain.data_spec import DataSpec
from finagent.domain.errors import BadInput
from finagent.quant.features.contract import NAMED_MAX

FINITE_OR_UNKNOWN = "is a number or unknown"


def schema_of(spec: DataSpec) -> pa.DataFrameSchema:
    """Columns symbol, session and each feature in its order and type, nothing else; a symbol once a session."""
    finite = pa.Check(lambda column: ~np.isinf(column), name=FINITE_OR_UNKNOWN)
    return pa.DataFrameSchema(
        {
            "symbol": pa.Column(str, pa.Check.str_length(min_value=1), nullable=False),
            "session": pa.Column(pd.DatetimeTZDtype("ns", "UTC"), nullable=False),
            **{feature.name: pa.Column(feature.dtype, finite, nullable=True) for feature in spec.features},
        },
        strict=True,
        ordered=True,
        unique=["symbol", "session"],
        name=f"{spec.name} {spec.hash}",
    )


def require_table(table: pd.DataFrame, spec: DataSpec, file: str) -> None:
    """BadInput that names column, symbols, count and first time of what the schema of the spec refuses."""
    try:
        schema_of(spec).validate(table, lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases
        told = []
        for (column, check), group in cases.groupby(["column", "check"], dropna=False):
            rows = [int(row) for row in group["index"].dropna()]
            where = ""
            if rows:
                of = table.iloc[rows]
                named = ", ".join(map(str, list(dict.fromkeys(of["symbol"]))[:NAMED_MAX]))
                where = f" in {len(rows)} rows of {named}, first at {of['session'].min().date()}"
            told.append(f"{column}: not true: {check}{where}")
        raise BadInput(f"{file}: not a table of {spec.name} {spec.hash}: " + "; ".join(told)) from None
