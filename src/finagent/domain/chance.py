"""Chance without a running stream: a draw depends on its key alone, so asking again gives the same answer."""

import hashlib


def uniform(seed: int, purpose: str, *key: str | int) -> float:
    """A number in [0, 1), uniform over keys: the first 53 bits of BLAKE2b of (seed, purpose, key)."""
    text = "\x1f".join(str(part) for part in (seed, purpose, *key))
    word = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    return (word >> 11) / float(1 << 53)
