"""STORY: an intent that nobody told of is found."""

from collections.abc import Callable
from pathlib import Path

from finagent_checker import check_folder


def test_an_entry_without_its_event_is_a_violation(sound_folder: Path, spoil: Callable[..., None]) -> None:
    spoil("UPDATE decision_event SET kind = 'step' WHERE kind = 'intent_committed'")

    found = [violation for violation in check_folder(sound_folder).violations if violation.invariant.value == "STORY"]

    assert [(violation.subject, violation.message) for violation in found] == [
        ("fa-entry", "no event intent_committed on the chain of won")
    ]
