"""Refuse NaN and infinity at the edge: `nan > limit` is False, so a naive limit lets it pass."""

from dataclasses import fields
from decimal import Decimal
from math import isfinite
from typing import Any

from finagent.domain.errors import BadInput


def require_finite(record: Any) -> None:
    """Raise BadInput naming the first float or Decimal field of a dataclass instance that is not finite."""
    for field in fields(record):
        value = getattr(record, field.name)
        if (isinstance(value, float) and not isfinite(value)) or (isinstance(value, Decimal) and not value.is_finite()):
            raise BadInput(f"{type(record).__name__}.{field.name} is {value}: not a finite number")
