"""A small course: a start, three instants with work in the middle one, the end."""

import pytest

from finagent.drill.course import Course
from finagent.drill.labels import AGENT_LABELS, FIRST_START_LABELS, START_LABELS

START = (*FIRST_START_LABELS, *START_LABELS)
INSTANT = ("instant.before", "activity.before", "activity.after", "instant.after")
WORK = tuple(label for label in AGENT_LABELS if label not in (*START, *INSTANT, "intent_commit.after", "outcome_commit.before"))
BUSY = ("instant.before", *WORK, "intent_commit.after", "send.before", "send.after", "outcome_commit.before", "instant.after")


@pytest.fixture
def course() -> Course:
    labels = (*START, *INSTANT, *BUSY, *INSTANT)
    first, second = len(START) + len(INSTANT), len(START) + len(INSTANT) + len(BUSY)
    return Course(labels, (("T1", first), ("T2", second), ("T3", len(labels))))
