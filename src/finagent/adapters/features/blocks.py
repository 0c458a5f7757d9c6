"""A block of features as bytes: a digest, and the columns as numpy writes them."""

import hashlib
import io

import numpy as np

from finagent.domain.bars import Floats

_DIGEST_BYTES = 16


def encoded(values: Floats) -> bytes:
    """Each feature [symbols] is one run of bytes."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(values.T), allow_pickle=False)
    content = stream.getvalue()
    return _digest(content) + content


def decoded(block: bytes) -> Floats | None:
    """[symbols, features]; None for anything but the bytes that `encoded` made."""
    digest, content = block[:_DIGEST_BYTES], block[_DIGEST_BYTES:]
    if digest != _digest(content):
        return None
    columns: Floats = np.load(io.BytesIO(content), allow_pickle=False)
    return columns.T


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
