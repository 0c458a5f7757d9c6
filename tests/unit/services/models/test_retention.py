"""What stays: everything that somebody needs, whatever it takes; of the rest the young and the best."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.prediction import Prediction
from finagent.quant.evaluation.promotion import Guards, Health, judge_demotion
from finagent.services.models.history import ChampionChange, champion_changed, demotion
from finagent.services.models.retention import Kept, RetentionPolicy, fates, needed_by_story

NOW = datetime(2016, 7, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
POLICY = RetentionPolicy(champions=3, best=2, days=30, bytes_a_day=100)


def kept(name: str, days: float, size: int = 10, score: float | None = None, experiment: str = "e") -> Kept:
    return Kept(name, experiment, NOW - days * DAY, size, score)


def stays(*all_: Kept, needed: dict[str, str] | None = None, champions: tuple[str, ...] = ()) -> dict[str, str]:
    return {fate.kept.name: fate.reason for fate in fates(all_, needed or {}, champions, POLICY, NOW) if fate.stays}


def test_the_best_of_each_experiment_stay_and_what_is_old_goes() -> None:
    old = [kept(f"a{score}", 90, score=float(score)) for score in range(4)] + [kept("b9", 90, score=9.0, experiment="other")]
    assert stays(*old, kept("untested", 90), kept("young", 29.9), kept("just old", 30)) == {
        "a0": "one of the best 2 of e",
        "a1": "one of the best 2 of e",
        "b9": "one of the best 2 of other",
        "young": "younger than 30 days",
    }


def test_a_day_keeps_its_best_up_to_its_bytes_and_who_is_needed_takes_none_of_them() -> None:
    day = [kept(f"c{number}", 1.1, 40, 10.0 - number, f"own {number}") for number in range(2)]
    rest = [kept("x", 1.2, 60), kept("y", 1.1, 50), kept("z", 2.2, 100), kept("role", 1.1, 10_000)]
    found = stays(*day, *rest, needed={"role": "it is champion"})
    assert set(found) == {"c0", "c1", "y", "z", "role"}, "y is younger than x, and both do not fit"
    fate = {each.kept.name: each.reason for each in fates(rest, {}, (), POLICY, NOW)}
    assert "more than 100 bytes" in fate["role"]


def test_who_scored_or_is_named_by_the_audit_is_needed_and_champions_are_in_order() -> None:
    events = [
        champion_changed(ChampionChange("promote", f"m@{number}", "d", f"m@{number - 1}", "why", "me"), NOW - (9 - number) * DAY)
        for number in (2, 1, 3, 4, 5)
    ]
    events.append(DecisionEvent(SubjectType.MODEL, "serving", "canary_stopped", NOW, body={"version": "m@77"}))
    events.append(DecisionEvent(SubjectType.MODEL, "training", "training_ended", NOW, body={"version": "m@99"}))
    events.append(DecisionEvent(SubjectType.DECISION, "d", "other", NOW, body={"version": "m@88"}))
    breached = judge_demotion(Health(failed_fraction=0.5), Guards())
    events.append(demotion("m@5", None, breached, NOW + DAY))  # there was nobody to go back to
    needed, champions = needed_by_story([Prediction("d", "m@66", "spec", 0.5, NOW)], events)
    assert champions == ("m@5", "m@4", "m@3", "m@2", "m@1")
    assert {name for name in needed if "@" in name} == {*(f"m@{number}" for number in range(6)), "m@66", "m@77"}
    assert set(stays(*(kept(f"m@{number}", 99) for number in range(6)), champions=champions)) == {"m@3", "m@4", "m@5"}


AGES, BYTES, SCORES = st.floats(0, 60), st.integers(0, 300), st.none() | st.floats(0, 9)


@given(st.lists(st.tuples(AGES, BYTES, SCORES), max_size=12), st.sets(st.integers(0, 11)))
def test_never_what_is_needed_and_never_more_than_a_day_may(
    found: list[tuple[float, int, float | None]], needed: set[int]
) -> None:
    all_ = [kept(str(number), days, size, score, str(number % 3)) for number, (days, size, score) in enumerate(found)]
    told = fates(all_, {str(number): "needed" for number in needed}, (), POLICY, NOW)
    assert [fate.kept for fate in told] == all_
    assert all(fate.stays for fate in told if int(fate.kept.name) in needed)
    spent: dict[object, int] = {}
    for fate in told:
        if fate.stays and fate.reason.startswith("younger"):
            day = fate.kept.made_at.date()
            spent[day] = spent.get(day, 0) + fate.kept.bytes
    assert all(total <= POLICY.bytes_a_day for total in spent.values())
