"""Domain records as rows and back, derived from the type hints of each dataclass.

A field is a column of the same name. Scalars keep their type; an enum is its name, a Decimal plain text, an instant the text of
`finagent.domain.time.to_text`, a date ISO text; a nested dataclass, tuple or dict is canonical JSON (keys sorted, no blanks).
Inside JSON the same rules hold, and a float that is not finite is its name in text ("nan"), since JSON has no number for it.
A float column of its own refuses NaN and infinity: SQLite would keep NaN as NULL.
"""

import json
import operator
import types
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from functools import cache
from math import isfinite
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import orjson

from finagent.domain.errors import BadInput
from finagent.domain.money import plain
from finagent.domain.time import to_text

R = TypeVar("R")
Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Codec:
    """How one type is written and read; both directions take and give a value that is not None."""

    encode: Convert
    decode: Convert


def canonical_json(value: Any) -> str:
    """One text a value: keys sorted, no blanks, ASCII; raises BadInput for NaN, infinity and what JSON has no form for."""
    try:
        return _canonical(value)
    except (TypeError, ValueError) as error:
        raise BadInput(f"cannot be written as JSON: {error}") from error


def payload_json(value: Any) -> str:
    """As `canonical_json`, several times faster, for text that no hash is made of; raises BadInput also for an integer of more
    than 64 bits."""
    try:
        text = orjson.dumps(value, default=_json_default, option=_PAYLOAD)
    except TypeError as error:
        raise BadInput(f"cannot be written as JSON: {error}") from error
    return canonical_json(value) if b"null" in text or not text.isascii() else text.decode()  # NaN would be a null


def _json_default(value: Any) -> Any:
    """Free-form bodies may hold the domain's own scalars; they are written as everywhere else."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return to_text(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} {value!r}")


_PAYLOAD = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, default=_json_default).encode


def _same(value: Any) -> Any:
    return value


def _finite(value: float) -> float:
    number = float(value)
    if not isfinite(number):
        raise BadInput(f"{number} cannot be stored: not a finite number")
    return number


def _float_to_json(value: float) -> float | str:
    number = float(value)
    return number if isfinite(number) else repr(number)


_SCALARS: dict[Any, Codec] = {
    str: Codec(_same, _same),
    int: Codec(operator.index, _same),
    float: Codec(_finite, float),
    bool: Codec(int, bool),
    Decimal: Codec(plain, Decimal),
    datetime: Codec(to_text, datetime.fromisoformat),
    date: Codec(date.isoformat, date.fromisoformat),
}
_JSON_SCALARS: dict[Any, Codec] = {**_SCALARS, float: Codec(_float_to_json, float), bool: Codec(bool, _same)}


def _optional(codec: Codec) -> Codec:
    encode, decode = codec.encode, codec.decode
    return Codec(
        lambda value: None if value is None else encode(value),
        lambda value: None if value is None else decode(value),
    )


def _without_none(hint: Any) -> Any | None:
    """T of `T | None`; None for any other hint."""
    if get_origin(hint) not in (Union, types.UnionType):
        return None
    rest = [part for part in get_args(hint) if part is not type(None)]
    if len(rest) != 1:
        raise TypeError(f"only unions with None can be stored, not {hint}")
    return rest[0]


def _enum(kind: type[Enum]) -> Codec:
    return Codec(operator.attrgetter("name"), kind.__members__.__getitem__)


@cache
def json_codec(hint: Any) -> Codec:
    """How a value of the type stands inside JSON."""
    if hint in _JSON_SCALARS:
        return _JSON_SCALARS[hint]
    inner = _without_none(hint)
    if inner is not None:
        return _optional(json_codec(inner))
    if hint is Any:
        return Codec(_same, _same)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum(hint)
    if is_dataclass(hint):
        return _json_object(hint)
    return _json_collection(hint)


def _json_collection(hint: Any) -> Codec:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        item = json_codec(arguments[0])
        return Codec(
            lambda value: [item.encode(each) for each in value],
            lambda value: tuple([item.decode(each) for each in value]),
        )
    if origin is dict and arguments[0] is str:
        item = json_codec(arguments[1])
        return Codec(
            lambda value: {key: item.encode(each) for key, each in value.items()},
            lambda value: {key: item.decode(each) for key, each in value.items()},
        )
    raise TypeError(f"no way to store {hint}")


def _json_object(kind: Any) -> Codec:
    hints = _hints(kind)
    codecs = {name: json_codec(hint) for name, hint in hints.items()}
    later = {name: None for name, hint in hints.items() if _without_none(hint) is not None}  # may be newer than what was stored
    return Codec(
        lambda value: {name: codec.encode(getattr(value, name)) for name, codec in codecs.items()},
        lambda value: kind(*[codec.decode((later | value)[name]) for name, codec in codecs.items()]),
    )


def column_codec(hint: Any) -> Codec:
    """How a value of the type stands in a column of its own."""
    if hint in _SCALARS:
        return _SCALARS[hint]
    inner = _without_none(hint)
    if inner is not None:
        return _optional(column_codec(inner))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum(hint)
    codec = json_codec(hint)
    return Codec(lambda value: canonical_json(codec.encode(value)), lambda text: codec.decode(json.loads(text)))


def _hints(kind: Any) -> dict[str, Any]:
    """Field name -> type, in the order of the constructor."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


class RecordCodec(Generic[R]):
    """The columns of one record type, in the order of its fields."""

    def __init__(self, record_type: type[R]) -> None:
        self.record_type = record_type
        self.columns = {name: column_codec(hint) for name, hint in _hints(record_type).items()}
        self._encoders = tuple((name, codec.encode) for name, codec in self.columns.items())
        self._decoders = tuple(codec.decode for codec in self.columns.values())

    def encode(self, record: R) -> tuple[Any, ...]:
        """Column values in the order of the fields; raises BadInput naming the field that holds another type."""
        try:
            return tuple([encode(getattr(record, name)) for name, encode in self._encoders])
        except (AttributeError, TypeError, ValueError) as error:
            raise BadInput(f"{self.record_type.__name__} {record!r} cannot be stored: {error}") from error

    def decode(self, row: tuple[Any, ...]) -> R:
        """The record of a row that holds the columns in the order of the fields."""
        return self.record_type(*[decode(value) for decode, value in zip(self._decoders, row, strict=True)])

    def encode_column(self, name: str, value: Any) -> Any:
        """One value as its column holds it, for a condition or a change; raises BadInput for a name that is no column."""
        codec = self.columns.get(name)
        if codec is None:
            raise BadInput(f"{self.record_type.__name__} has no column {name!r}")
        try:
            return None if value is None else codec.encode(value)
        except (AttributeError, TypeError, ValueError) as error:
            raise BadInput(f"{self.record_type.__name__}.{name} cannot hold {value!r}: {error}") from error
