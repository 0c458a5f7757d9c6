"""What a drill is going to do follows from its seed, and deals every kind of kill its share."""

from collections import Counter

import pytest

from finagent.drill.labels import BROKER_LABELS, LABELS, SERIAL_LABELS
from finagent.drill.plan import COLD_START_EVERY, KILLS_A_REPLAY_MAX, Aim, KillPlanner, ReplayPlan


def dealt(seed: int, kills: int) -> list[ReplayPlan]:
    planner, plans, left = KillPlanner(seed), list[ReplayPlan](), kills
    while left:
        plan = planner.next_replay(left)
        left -= len(plan.kills)
        plans.append(plan)
    return plans


def test_the_same_seed_deals_the_same_kills_and_another_seed_others() -> None:
    assert dealt(1, 100) == dealt(1, 100)
    assert dealt(1, 100) != dealt(2, 100)


@pytest.mark.parametrize("seed", range(5))
def test_every_replay_gets_one_to_five_kills_and_their_sum_is_what_was_wanted(seed: int) -> None:
    plans = dealt(seed, 300)

    assert sum(len(plan.kills) for plan in plans) == 300
    assert {len(plan.kills) for plan in plans} == set(range(1, KILLS_A_REPLAY_MAX + 1))


@pytest.mark.parametrize("seed", range(5))
def test_the_aims_come_in_thirds(seed: int) -> None:
    aims = Counter(kill.aim for plan in dealt(seed, 300) for kill in plan.kills)

    assert set(aims) == set(Aim)
    assert all(85 <= count <= 115 for count in aims.values())


@pytest.mark.parametrize("seed", range(5))
def test_every_label_has_its_turn(seed: int) -> None:
    labels = {kill.label for plan in dealt(seed, 300) for kill in plan.kills}

    assert labels == {*LABELS, None}


def test_a_kill_in_a_recovery_follows_another_kill() -> None:
    assert all(plan.kills[0].aim is not Aim.RECOVERY for plan in dealt(3, 300))


def test_some_replays_are_hit_again_and_again_at_one_serial_label() -> None:
    serial = [plan for plan in dealt(3, 600) if len(plan.kills) >= 3 and {kill.label for kill in plan.kills} < set(SERIAL_LABELS)]

    assert len(serial) >= 3
    assert all(len({kill.label for kill in plan.kills}) == 1 for plan in serial)
    assert all(not kill.fresh_row for plan in serial for kill in plan.kills[1:])


def test_about_every_twentieth_process_is_the_real_command_and_never_one_that_must_kill_itself() -> None:
    kills = [kill for plan in dealt(3, 1000) for kill in plan.kills]
    cold = [kill for kill in kills if kill.cold]

    assert 0.8 * len(kills) / COLD_START_EVERY <= len(cold) <= len(kills) / COLD_START_EVERY
    assert {kill.label for kill in cold} <= {None, *BROKER_LABELS}


def test_a_missed_kill_gives_its_label_another_turn() -> None:
    planner = KillPlanner(1)
    plan = next(p for p in iter(lambda: planner.next_replay(5), None) if p.kills[0].label not in (None, *SERIAL_LABELS))
    label = plan.kills[0].label

    planner.missed(plan.kills[0])

    following = [kill.label for _ in range(6) for kill in planner.next_replay(5).kills]
    assert label in following


def test_a_drill_of_one_place_kills_nowhere_else() -> None:
    planner = KillPlanner(1, ("send.before", "send.after"))

    labels = [kill.label for _ in range(10) for kill in planner.next_replay(5).kills]

    assert set(labels) == {"send.before", "send.after"}
