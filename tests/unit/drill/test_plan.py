"""What a drill is going to do follows from its seed, and deals every kind of kill its share."""

from collections import Counter
from functools import cache
from itertools import pairwise

import pytest

from finagent.drill.course import Course
from finagent.drill.labels import BROKER_LABELS, FIRST_START_LABELS, LABELS, SERIAL_LABELS, START_LABELS, STOP_LABELS
from finagent.drill.plan import KILLS_A_REPLAY_MAX, RECOVERY_DEPTH_MAX, Aim, KillPlanner, PlannedKill, ReplayPlan
from finagent.drill.report import KILLS_A_LABEL_HIT


def dealt(course: Course, seed: int, kills: int) -> list[ReplayPlan]:
    """Ten thousand take a while: each plan is dealt once."""
    return _kept(course.labels, course.instants, seed, kills)


@cache
def _kept(labels: tuple[str, ...], instants: tuple[tuple[str, int], ...], seed: int, kills: int) -> list[ReplayPlan]:
    return deal(Course(labels, instants), seed, kills)


def deal(course: Course, seed: int, kills: int) -> list[ReplayPlan]:
    planner, plans, left = KillPlanner(seed, course), list[ReplayPlan](), kills
    while left:
        plan = planner.next_replay(left)
        left -= len(plan.kills)
        plans.append(plan)
    return plans


def kills_of(plans: list[ReplayPlan]) -> list[PlannedKill]:
    return [kill for plan in plans for kill in plan.kills]


def is_serial(plan: ReplayPlan) -> bool:
    return len(plan.kills) >= 3 and not plan.kills[-1].fresh_row


def test_the_same_seed_deals_the_same_kills_and_another_seed_others(course: Course) -> None:
    assert deal(course, 1, 200) == deal(course, 1, 200)
    assert deal(course, 1, 200) != deal(course, 2, 200)


@pytest.mark.parametrize("seed", range(3))
def test_replays_get_between_one_kill_and_the_most_and_their_sum_is_what_was_wanted(course: Course, seed: int) -> None:
    plans = dealt(course, seed, 2000)

    assert sum(len(plan.kills) for plan in plans) == 2000
    assert min(len(plan.kills) for plan in plans) == 1
    assert max(len(plan.kills) for plan in plans) == KILLS_A_REPLAY_MAX


@pytest.mark.parametrize("seed", range(3))
def test_the_main_aims_come_in_thirds_and_the_others_too(course: Course, seed: int) -> None:
    aims = Counter(kill.aim for kill in kills_of(dealt(course, seed, 2000)))

    assert set(aims) == set(Aim)
    assert all(580 <= aims[aim] <= 720 for aim in (Aim.INSTANT, Aim.LABEL, Aim.RECOVERY))
    assert aims[Aim.STOP] >= 20
    assert aims[Aim.TERM] >= 5


@pytest.mark.parametrize("seed", range(3))
def test_every_label_has_its_share_with_a_margin_for_kills_that_miss(course: Course, seed: int) -> None:
    kills = kills_of(dealt(course, seed, 10_000))
    hits = Counter(kill.label for kill in kills if kill.aim is not Aim.STOP)

    assert set(hits) == {*LABELS, None}
    assert min(hits.values()) >= 1.3 * 10_000 // KILLS_A_LABEL_HIT


@pytest.mark.parametrize("seed", range(3))
def test_two_hundred_of_ten_thousand_are_of_the_real_command_which_cannot_kill_itself(course: Course, seed: int) -> None:
    cold = [kill for kill in kills_of(dealt(course, seed, 10_000)) if kill.cold]

    assert 180 <= len(cold) <= 240
    assert {kill.label for kill in cold} <= {None, *BROKER_LABELS}
    assert {Aim.INSTANT, Aim.LABEL, Aim.RECOVERY, Aim.TERM} == {kill.aim for kill in cold}


def test_kills_of_a_replay_follow_the_course_and_what_only_a_first_start_passes_comes_first(course: Course) -> None:
    for plan in dealt(course, 3, 2000):
        forward = [kill for kill in plan.kills if kill.aim is not Aim.RECOVERY]
        if not is_serial(plan):
            places = [(kill.label not in FIRST_START_LABELS, kill.index) for kill in forward]
            assert places == sorted(places)


def test_kills_in_recoveries_come_in_rows_behind_another_kill(course: Course) -> None:
    plans = dealt(course, 3, 3000)
    rows = Counter(kill.depth for kill in kills_of(plans) if kill.aim is Aim.RECOVERY)

    assert set(rows) == set(range(1, RECOVERY_DEPTH_MAX + 1))
    assert all(plan.kills[0].aim is not Aim.RECOVERY for plan in plans)
    for plan in plans:
        for before, kill in pairwise(plan.kills):
            assert kill.aim is not Aim.RECOVERY or kill.depth == before.depth + 1
    assert {kill.label for kill in kills_of(plans) if kill.aim is Aim.RECOVERY} == {None, *START_LABELS}


def test_every_second_random_instant_has_orders_on_their_way(course: Course) -> None:
    instants = [kill for kill in kills_of(dealt(course, 3, 2000)) if kill.aim is Aim.INSTANT and not kill.cold]

    assert 0.4 * len(instants) < sum(kill.index in course.in_flight for kill in instants) < 0.7 * len(instants)


def test_some_replays_are_hit_again_and_again_at_one_serial_label(course: Course) -> None:
    serial = [plan for plan in dealt(course, 3, 2000) if is_serial(plan)]

    assert len(serial) >= 10
    assert all(len({kill.label for kill in plan.kills}) == 1 for plan in serial)
    assert {plan.kills[0].label for plan in serial} <= set(SERIAL_LABELS)
    assert all(plan.kills[0].fresh_row for plan in serial)


def test_a_process_is_stopped_where_it_acts_on_what_it_knew(course: Course) -> None:
    labels = {kill.label for kill in kills_of(dealt(course, 3, 5000)) if kill.aim is Aim.STOP}

    assert labels == set(STOP_LABELS)


def test_a_missed_kill_gives_its_label_another_turn(course: Course) -> None:
    planner = KillPlanner(1, course)
    first = next(kill for kill in iter_kills(planner) if kill.aim is Aim.LABEL)
    before = next(n for n, kill in enumerate(iter_kills(planner)) if kill.label == first.label)

    again = KillPlanner(1, course)
    next(kill for kill in iter_kills(again) if kill.aim is Aim.LABEL)
    again.missed(first)
    after = next(n for n, kill in enumerate(iter_kills(again)) if kill.label == first.label)

    assert after < before


def test_a_drill_of_one_place_kills_nowhere_else(course: Course) -> None:
    planner = KillPlanner(1, course, ("send.before", "send.after"))

    labels = [kill.label for _ in range(10) for kill in planner.next_replay(5).kills]

    assert set(labels) == {"send.before", "send.after"}


def iter_kills(planner: KillPlanner) -> "list[PlannedKill]":
    return [kill for _ in range(60) for kill in planner.next_replay(25).kills]
