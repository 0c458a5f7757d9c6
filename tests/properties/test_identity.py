"""Names are derived: the same thing has the same name in any process, different things never share one."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finagent.domain import identity
from finagent.domain.chance import uniform
from finagent.domain.errors import BadInput
from finagent.domain.time import from_text, to_text

words = st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=20)
FIRST, SECONDS = datetime(1990, 1, 1, tzinfo=UTC), 110 * 365 * 86_400
instants = st.integers(0, SECONDS * 1_000_000).map(lambda parts: FIRST + timedelta(microseconds=parts))
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
orders = st.tuples(words, words, words, st.sampled_from(["ENTRY", "STOP", "TARGET", "EXIT"]), st.integers(0, 50))


@given(orders, orders)
def test_two_orders_share_an_id_only_if_they_are_the_same_order(
    one: tuple[str, str, str, str, int], other: tuple[str, str, str, str, int]
) -> None:
    assert (identity.client_order_id(*one) == identity.client_order_id(*other)) == (one == other)


@given(orders)
def test_an_order_id_fits_every_broker(order: tuple[str, str, str, str, int]) -> None:
    name = identity.client_order_id(*order)

    assert len(name) <= identity.CLIENT_ORDER_ID_LENGTH_MAX
    assert name.isascii()
    assert name.startswith("fa-")


@given(words, words, instants, offsets)
def test_a_run_is_named_by_the_instant_not_by_its_zone(ledger: str, entry: str, fired_at: datetime, zone: timezone) -> None:
    assert identity.run_id(ledger, entry, fired_at) == identity.run_id(ledger, entry, fired_at.astimezone(zone))


@given(words, words, words)
def test_stories_of_two_symbols_of_a_run_have_names_of_their_own(run: str, symbol: str, other: str) -> None:
    one, two = identity.decision_id(run, symbol), identity.decision_id(run, other)

    assert (one == two) == (symbol == other)
    assert len(identity.trace_id(one)) == 32
    assert int(identity.trace_id(one), 16) >= 0


@given(instants, offsets)
def test_time_as_text_comes_back_and_sorts_like_the_instant(instant: datetime, zone: timezone) -> None:
    later = instant + timedelta(microseconds=1)

    assert from_text(to_text(instant.astimezone(zone))) == instant
    assert to_text(instant) < to_text(later)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(BadInput, match="naive"):
        to_text(FIRST.replace(tzinfo=None))


@given(st.integers(), words, st.lists(st.one_of(words, st.integers()), max_size=3))
def test_a_draw_depends_on_its_key_alone(seed: int, purpose: str, key: list[str | int]) -> None:
    first = uniform(seed, purpose, *key)

    assert 0 <= first < 1
    assert uniform(seed, purpose, *key) == first
    assert uniform(seed + 1, purpose, *key) != first


def test_draws_are_spread_evenly() -> None:
    draws = [uniform(7, "spread", number) for number in range(20_000)]
    tenths = [sum(1 for draw in draws if int(draw * 10) == tenth) for tenth in range(10)]

    assert all(abs(count - 2_000) < 200 for count in tenths)  # 4.7 standard deviations


@pytest.mark.parametrize(("text", "why"), [("yesterday", "is not an instant"), ("2008-10-01T13:35:00", "names no zone")])
def test_a_text_that_names_no_instant_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        from_text(text)
