"""On the course of an undisturbed replay, a place is so many passages away from where a start goes on."""

from pathlib import Path

import pytest

from finagent.drill.course import Course

from .conftest import INSTANT, START


def test_it_is_stored_and_read_again(course: Course, tmp_path: Path) -> None:
    course.save(tmp_path / "course.json")

    assert Course.load(tmp_path / "course.json") == course


def test_a_label_has_a_place_for_each_of_its_passages(course: Course) -> None:
    first, last = course.index_of("instant.before", 0.0), course.index_of("instant.before", 0.99)

    assert course.labels[first] == course.labels[last] == "instant.before"
    assert (first, last) == (len(START), len(course.labels) - len(INSTANT))
    assert course.passages["instant.before"] == 3


@pytest.mark.parametrize("label", [None, "broker_commit.after"])
def test_what_is_not_on_the_course_has_its_share_of_the_whole(course: Course, label: str | None) -> None:
    assert course.index_of(label, 0.5) == len(course.labels) // 2


def test_a_first_start_passes_everything_up_to_the_place(course: Course) -> None:
    for index in (0, 3, len(course.labels) - 1):
        assert course.passages_to(None, index, "", 0) == index + 1


def test_a_later_start_begins_at_the_instant_of_the_market_clock(course: Course) -> None:
    index = course.index_of("instant.before", 0.99)

    assert course.passages_to("instant.before", index, "", 0) == 3
    assert course.passages_to("instant.before", index, "T2", 0) == 2
    assert course.passages_to("instant.before", index, "T3", 0) == 1
    assert course.passages_to(None, index - 1, "T2", 0) == len(START) + len(INSTANT)


def test_what_lies_behind_is_met_at_its_next_passage(course: Course) -> None:
    assert course.passages_to("instant.before", 0, "T3", 0) == 1
    assert course.passages_to("send.before", course.index_of("send.before", 0.0), "T3", 0) == 1


def test_where_an_instant_holds_the_last_passages_what_was_passed_before_says_how_many_may_be_left(course: Course) -> None:
    """What of the instant was done is not known: of two passages there, only one may be left."""
    twice = course.index_of("send.before", 0.99)

    assert course.passages["send.before"] == 2
    assert course.passages_to("send.before", twice, "T1", 0) == 2
    assert course.passages_to("send.before", twice, "T2", 0) == 2
    assert course.passages_to("send.before", twice, "T2", 1) == 1
    assert course.passages_to("send.before", twice, "T2", 5) == 1


def test_where_later_instants_have_enough_passages_repetitions_do_not_count(course: Course) -> None:
    assert course.passages_to("instant.before", course.index_of("instant.before", 0.5), "T2", 7) == 1
    assert course.passages_to("instant.before", course.index_of("instant.before", 0.99), "T1", 7) == 1
    assert course.passages_to("instant.before", course.index_of("instant.before", 0.5), "T1", 7) == 2


def test_orders_are_in_flight_between_the_first_intent_of_an_instant_and_its_last_outcome(course: Course) -> None:
    assert [course.labels[index] for index in course.in_flight] == [
        "intent_commit.after",
        "send.before",
        "send.after",
        "outcome_commit.before",
    ]
