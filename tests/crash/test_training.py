"""A training survives what kills its processes or itself: nothing is lost, nothing is there twice, the same comes of it."""

from pathlib import Path

import pytest
from tests.crash.training_kills import DESCENT, EPOCHS, killed

COUNT = 4


@pytest.mark.drill
def test_killed_children_and_a_killed_parent_change_nothing(tmp_path: Path) -> None:
    undisturbed = killed(tmp_path / "undisturbed", COUNT, DESCENT, children=0, parents=0, mlflow=False)
    left = killed(tmp_path / "killed", COUNT, DESCENT, children=2, parents=1, mlflow=False)

    assert left.success_rate == 1.0
    assert left.orphans == 0, "children end with their parent"
    assert set(left.metrics.values()) == {1}
    assert {key[2] for key in left.metrics} == set(range(1, EPOCHS + 1))
    assert left.metrics == undisturbed.metrics
    assert left.states == undisturbed.states
