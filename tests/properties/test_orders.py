"""The order table: whatever the order of the same reports, the end is the same; nothing terminal comes back to life."""

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from finagent.domain.orders import REPORTED, TERMINAL, TRANSITIONS, OrderState, advance

STARTS = (OrderState.PENDING, OrderState.PARKED)
reports = st.lists(st.sampled_from(REPORTED), min_size=1, max_size=6)


def after(start: OrderState, told: tuple[OrderState, ...]) -> OrderState:
    state = start
    for report in told:
        state = advance(state, report)
    return state


@given(st.sampled_from(STARTS), reports)
def test_every_permutation_of_up_to_six_reports_ends_in_the_same_state(start: OrderState, told: list[OrderState]) -> None:
    assert len({after(start, order) for order in permutations(told)}) == 1


@given(st.sampled_from(STARTS), reports)
def test_reports_told_twice_change_nothing(start: OrderState, told: list[OrderState]) -> None:
    once = tuple(told)

    assert after(start, once + once) == after(start, once)


@given(st.sampled_from(OrderState), reports)
def test_a_terminal_order_stays_terminal_and_no_report_ever_parks_or_denies(start: OrderState, told: list[OrderState]) -> None:
    end = after(start, tuple(told))

    assert not start.terminal or end.terminal
    assert end is start or end in REPORTED


@given(reports)
def test_a_full_fill_outweighs_everything_else(told: list[OrderState]) -> None:
    assert after(OrderState.PENDING, (*told, OrderState.FILLED)) is OrderState.FILLED


def test_the_table_covers_every_state_and_states_no_move_to_itself() -> None:
    assert set(TRANSITIONS) == set(OrderState)
    assert all(state not in moves for state, moves in TRANSITIONS.items())
    assert frozenset(REPORTED[3:]) | {OrderState.DENIED} == TERMINAL
