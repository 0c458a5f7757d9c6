"""Trainings on real gaps: every model of `finagent models train` walking forward, beside how often each outcome happens.

`python -m tests.benchmarks.real_data FOLDER` trains in that folder and prints the tables as JSON; it ends with 1 where a
specialist is worse than knowing nothing. Sets that are not there (FINAGENT_TEST_DATA, else `../shared/data`) are named.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from finagent.quant.specialists.networks import NETWORKS

BRIER_WORSE_MAX = 0.002  # of every tested row, none left out; from 0 to 2
SAMPLE = "the sample"
SETS = {  # first and last session; None: what the program brings along
    SAMPLE: (None, "2004-08-19", "2008-09-30"),
    "46 large companies": ("daily_yahoo88_shared.parquet", "2012-09-04", "2017-09-01"),
    "433 companies": ("daily_universe_2013-2016.parquet", "2013-10-01", "2016-12-30"),
}


def trained(name: str, number: int, folder: Path) -> dict[str, Any]:
    """The document of the command, or why there is none."""
    file, first, last = SETS[name]
    options = [f"storage.directory={folder / str(number)}", "http.enabled=false"]
    options += [f"market_data.first_session={first}", f"market_data.last_session={last}"]
    if file is not None:
        named = os.environ.get("FINAGENT_TEST_DATA")
        source = (Path(named) if named else Path(__file__).parents[3] / "shared" / "data") / file
        if not source.is_file():
            return {"absent": file}
        bars = folder / f"bars-{number}"
        bars.mkdir()
        (bars / file).symlink_to(source)
        options.append(f"market_data.source=files:{bars}")
    command = [
        "-m",
        "finagent.cli",
        "models",
        "train",
        "gaps",
        "1",
        "--json",
        *(word for one in options for word in ("--set", one)),
    ]
    ended = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(ended.stdout))


def judged(told: dict[str, Any]) -> dict[str, Any]:
    """Brier scores of the specialists beside that of climatology."""
    if "absent" in told:
        return told
    brier = {trial["name"]: trial["brier"] for trial in told["trials"]}
    held = all(brier[name] <= brier["climatology"] + BRIER_WORSE_MAX for name in NETWORKS)
    return {name: told[name] for name in ("rows", "metrics", "trials")} | {"held": held}


if __name__ == "__main__":
    found = {name: judged(trained(name, number, Path(sys.argv[1]))) for number, name in enumerate(SETS)}
    print(json.dumps(found, indent=2))
    sys.exit(int(not all(each.get("held", name != SAMPLE) for name, each in found.items())))
