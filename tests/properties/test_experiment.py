"""Who takes part: the share that was asked for, nested from step to step, and independent of other experiments."""

from datetime import date, timedelta
from itertools import pairwise
from math import sqrt

from hypothesis import given, settings
from hypothesis import strategies as st

from finagent.domain.experiment import Subject, takes_part

DAYS = [date(2008, 1, 1) + timedelta(days=number) for number in range(50)]
SUBJECTS = [Subject(f"SYM{number}", day) for number in range(40) for day in DAYS]
RAMP = (0.05, 0.2, 0.5, 1.0)


def part(experiment: str, share: float) -> set[Subject]:
    return {subject for subject in SUBJECTS if takes_part(experiment, subject, share)}


def near(count: int, of: int, share: float) -> bool:
    """Within five binomial standard errors: the examples are drawn anew each time."""
    return abs(count - of * share) <= 5 * sqrt(of * share * (1 - share))


@settings(max_examples=20, deadline=None)
@given(st.text(max_size=20), st.sampled_from(RAMP[:-1]))
def test_the_share_is_what_was_asked_for(experiment: str, share: float) -> None:
    assert near(len(part(experiment, share)), len(SUBJECTS), share)


def test_the_shares_of_known_experiments_are_within_three_standard_errors() -> None:
    for experiment in ("gap-logistic@2", "gap-logistic@3", "gap-tcn@1"):
        for share in RAMP[:-1]:
            error = sqrt(len(SUBJECTS) * share * (1 - share))
            assert abs(len(part(experiment, share)) - len(SUBJECTS) * share) <= 3 * error


@settings(max_examples=15, deadline=None)
@given(st.text(max_size=20))
def test_a_ramp_only_adds(experiment: str) -> None:
    steps = [part(experiment, share) for share in (0.0, *RAMP)]
    assert steps[0] == set()
    assert all(earlier < later for earlier, later in pairwise(steps))
    assert steps[-1] == set(SUBJECTS)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text(max_size=20), min_size=2, max_size=2, unique=True))
def test_experiments_are_independent(experiments: list[str]) -> None:
    one, other = (part(experiment, 0.5) for experiment in experiments)
    assert near(len(one & other), len(SUBJECTS), 0.25)


def test_the_choice_is_the_documented_hash() -> None:
    """As a spreadsheet or another system would compute it."""
    import hashlib

    for subject in SUBJECTS[:200]:
        text = f"x@1:{subject.symbol}:{subject.session_date}"
        word = int(hashlib.blake2b(text.encode(), digest_size=8).hexdigest(), 16)
        assert takes_part("x@1", subject, 0.2) == (word / 2**64 < 0.2)
