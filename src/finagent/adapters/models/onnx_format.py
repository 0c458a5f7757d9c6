"""What a model file may contain, read from its bytes before any runtime sees them: standard operators and their own numbers."""

from collections.abc import Iterator

from finagent.domain.errors import BadInput

DOMAINS = (b"", b"ai.onnx", b"ai.onnx.ml")
DEPTH_MAX = 32
_ORT_FORMAT = b"ORTM"
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5

# Messages of onnx.proto and those of their fields that hold messages, by number.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_REFUSED = {
    ("model", 20): "it brings training steps along",
    ("model", 25): "it brings functions of its own along",
    ("tensor", 13): "it keeps numbers in another file (external data)",
}
_OPERATOR, _DOMAIN, _DATA_LOCATION = 4, 7, 14


def require_self_contained(model: bytes) -> None:
    """Raises BadInput, saying what is wrong, for bytes that are no whole ONNX model, for operators that are not standard ones,
    and for data in other files."""
    if model[4:8] == _ORT_FORMAT:
        raise BadInput("it is in ONNX Runtime's own format, not ONNX")
    if 7 not in [number for number, _ in _fields(memoryview(model))]:
        raise BadInput("it is truncated or no ONNX: it has no graph")
    _examine("model", memoryview(model), DEPTH_MAX)


def _examine(message: str, data: memoryview, depth: int) -> None:
    if depth == 0:
        raise BadInput(f"its graphs are nested more than {DEPTH_MAX} deep")
    operator, domain = b"", b""
    for number, value in _fields(data):
        if (message, number) in _REFUSED:
            raise BadInput(_REFUSED[message, number])
        if (message, number, value) == ("tensor", _DATA_LOCATION, 1):
            raise BadInput(_REFUSED["tensor", 13])
        inner = _INSIDE[message].get(number)
        if inner is not None:
            _examine(inner, _bytes(value), depth - 1)
        elif message == "node" and number == _OPERATOR:
            operator = bytes(_bytes(value))
        elif message == "node" and number == _DOMAIN:
            domain = bytes(_bytes(value))
    if domain not in DOMAINS:
        named = b".".join((domain, operator)).decode(errors="replace")
        raise BadInput(f"it uses the custom operator {named}: only standard ONNX is loaded")


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise BadInput("it is truncated or no ONNX: a message is a number")
    return value


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field, as protobuf writes them."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind = key & 7
        if kind == _VARINT:
            value, place = _varint(data, place)
            yield key >> 3, value
            continue
        if kind == _LENGTH:
            size, place = _varint(data, place)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise BadInput(f"it is truncated or no ONNX: byte {place} is of no known kind")
        if place + size > len(data):
            raise BadInput(f"it is truncated or no ONNX: {place + size - len(data)} bytes are missing")
        yield key >> 3, data[place : place + size]
        place += size


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place == len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise BadInput("it is truncated or no ONNX: a number has no end")
