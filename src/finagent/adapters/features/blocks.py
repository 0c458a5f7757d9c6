"""A block of features as bytes: a digest of its key and its columns, and the columns as numpy writes them."""

import hashlib
import io

import numpy as np

from finagent.domain.bars import Floats
from finagent.domain.ports.feature_store import FeatureKey

_DIGEST_BYTES = 16


def encoded(key: FeatureKey, values: Floats) -> bytes:
    """Each feature [symbols] is one run of bytes."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(values.T), allow_pickle=False)
    content = stream.getvalue()
    return _digest(key, content) + content


def decoded(key: FeatureKey, block: bytes) -> Floats | None:
    """[symbols, features]; None for anything but the bytes that `encoded` made for that key."""
    digest, content = block[:_DIGEST_BYTES], block[_DIGEST_BYTES:]
    if digest != _digest(key, content):
        return None
    columns: Floats = np.load(io.BytesIO(content), allow_pickle=False)
    return columns.T


def _digest(key: FeatureKey, content: bytes) -> bytes:
    return hashlib.blake2b(repr(key).encode() + content, digest_size=_DIGEST_BYTES).digest()
