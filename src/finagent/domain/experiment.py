"""Who takes part in an experiment: decided by a hash, so that whoever asks again gets the same answer."""

import hashlib
from dataclasses import dataclass
from datetime import date

_WORD_BITS = 64


@dataclass(frozen=True, slots=True)
class Subject:
    """What a model is asked about: a symbol on a day. All its requests of that day share one fate."""

    symbol: str
    session_date: date


def takes_part(experiment: str, subject: Subject, share: float) -> bool:
    """Whether the subject is among the `share` (0 to 1) of all that the experiment takes: blake2b(experiment:symbol:day) / 2^64
    is below it. Whoever takes part at a share does at every larger one; the name of the experiment salts the choice."""
    text = f"{experiment}:{subject.symbol}:{subject.session_date}"
    word = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=_WORD_BITS // 8).digest(), "big")
    return word < share * 2.0**_WORD_BITS
