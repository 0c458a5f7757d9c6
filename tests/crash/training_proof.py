"""`python -m tests.crash.training_proof FOLDER 20 3 1`: so many trainings at once, so many children and parents killed. Says what
is left, what a loop beside them feels of it, and what one copy of the rows is worth."""

import json
import sys
from pathlib import Path

from tests.benchmarks.beside_training import lag_beside, starts
from tests.crash.training_kills import SPECIALIST, killed, parent_command

LAG_MORE_MS_MAX, FASTER_MIN = 5.0, 3.0


def main(folder: Path, count: int, children: int, parents: int) -> int:
    """Exit 3 unless everything came to its end as if nothing had been killed, and nobody beside it felt more than a little."""
    undisturbed = killed(folder / "undisturbed", count, SPECIALIST, children=0, parents=0, mlflow=False)
    left = killed(folder / "killed", count, SPECIALIST, children=children, parents=parents, mlflow=True)
    lag = lag_beside(parent_command(folder / "beside", count, SPECIALIST, mlflow=True))
    start = starts(folder / "starts")
    promises = {
        "all_ended": left.success_rate == 1.0,
        "every_metric_once": set(left.metrics.values()) == {1} and left.metrics == undisturbed.metrics,
        "the_same_bits": left.states == undisturbed.states,
        "no_orphans": left.orphans == 0,
        "loop_unharmed": lag["running"]["p99_ms"] <= lag["held_back"]["p99_ms"] + LAG_MORE_MS_MAX,
        "start_three_times_faster": start["faster"] >= FASTER_MIN,
    }
    said = {
        "trainings": count,
        "success_rate": left.success_rate,
        "children_killed": children,
        "parents_killed": parents,
        "processes_lost_to_the_last_parent": left.losses,
        "metrics": len(left.metrics),
        "loop_beside": lag,
        "start": start,
        "promises": promises,
    }
    print(json.dumps(said))
    return 0 if all(promises.values()) else 3


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
