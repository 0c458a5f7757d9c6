"""`make proof`: runs the long forms of what is promised and keeps their answers in docs/proof/.

Each file says which command was run, on which commit and machine, how long it took, how it ended, and what it printed.
`make proof ONLY=bench-scan` runs one of them.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from finagent.bench.contest import machine

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
FOLDER = ROOT / "docs" / "proof"

NORMAL = "tests.planted_bugs.normal_instead_of_full:application"

# {folder} is a fresh temporary folder of the proof: it is removed afterwards. A pair names the exit code that a negative control,
# which must be caught, has to end with.
PROOFS: dict[str, tuple[str | tuple[str, int], ...]] = {
    "drill-kill": ("finagent drill kill --kills 10000 --seed 1 --json",),
    "drill-kill-alpaca": ("finagent drill kill --kills 1000 --seed 1 --broker alpaca --json",),
    "drill-power-loss": (
        "finagent drill power-loss --images 1500 --seed 1 --json",
        (f"python -m finagent.cli drill power-loss --images 1500 --seed 1 --json --application {NORMAL}", 3),
    ),
    "equal-replays": (
        "finagent orchestrate --json --set storage.directory={folder}/first",
        "finagent orchestrate --json --set storage.directory={folder}/second",
    ),
    "equal-backends": (
        "python -m pytest -q tests/integration/test_shared_store_commands.py tests/integration/test_day_on_redis.py "
        "tests/crash/test_scale_out.py",
    ),
    "bench-scan": ("finagent bench scan --json",),
    "bench-features": ("finagent bench features --json",),
    "planted-edges": ("python -m tests.properties.planted_edges 1500",),
    "real-data": ("python -m tests.benchmarks.real_data {folder}",),
    "promotion": ("python -m tests.properties.promotion_control 400 100",),
    "bench-inference": ("finagent bench inference --json",),
    "bench-risk": ("finagent bench risk --json",),
    "feature-drift": ("python -m tests.properties.feature_drift 1000000",),
    "bench-queue": ("finagent bench queue --json",),
    "protocol-model": ("python -m tests.model",),
    "stateful": ("python -m pytest -q --durations=5 tests/stateful",),
    "ambiguous-outcomes": ("python -m tests.stateful.ambiguous_outcomes 100000",),
    "halt-presses": ("python -m tests.stateful.halt_presses 1000",),
    "hung-broker": ("python -m tests.benchmarks.hung_broker 30",),
    "risk-gate": ("python -m tests.properties.adversarial_signals 1000000",),
    "value-at-risk": ("python -m tests.benchmarks.value_at_risk --json",),
    "training": ("python -m tests.crash.training_proof {folder} 20 3 1",),
    "statistics": ("python -m pytest -q -m statistics tests",),
    "audit": ("python tests/benchmarks/audit_verify.py 500000 500 10000",),
}


@dataclass(frozen=True)
class Answer:
    """One command as it ran."""

    command: str
    exit_code: int
    exit_code_wanted: int
    seconds: float
    output: object


def commit() -> str:
    """The commit, marked when the tree differs from it."""
    return subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def run(command: str, exit_code_wanted: int) -> Answer:
    """Run one command of .venv/bin and keep its JSON, or the end of its text."""
    started = time.monotonic()
    words = command.split()
    process = subprocess.run([str(BIN / words[0]), *words[1:]], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    output: object
    try:
        output = json.loads(process.stdout)
    except json.JSONDecodeError:
        output = process.stdout.splitlines()[-20:]
    return Answer(command, process.returncode, exit_code_wanted, round(time.monotonic() - started, 1), output)


def prove(name: str, commands: tuple[str | tuple[str, int], ...]) -> bool:
    """Run the commands of one proof and write its file; equal replays must also agree on their outcome hash."""
    print(f"== {name}", flush=True)
    with tempfile.TemporaryDirectory(prefix="finagent-proof-") as folder:
        pairs = [(command, 0) if isinstance(command, str) else command for command in commands]
        answers = [run(command.format(folder=folder), wanted) for command, wanted in pairs]
    held = all(answer.exit_code == answer.exit_code_wanted for answer in answers)
    if name == "equal-replays":
        hashes = {answer.output.get("outcome_hash") for answer in answers if isinstance(answer.output, dict)}
        held = held and len(hashes) == 1 and None not in hashes
    proof = {
        "proof": name,
        "held": held,
        "commit": commit(),
        "machine": machine(),
        "answers": [{**asdict(answer), "command": answer.command.replace(folder, "FOLDER")} for answer in answers],
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(proof, indent=2) + "\n")
    print(f"   {'held' if held else 'BROKEN'} in {sum(answer.seconds for answer in answers):.0f} s", flush=True)
    return held


def main(names: list[str]) -> int:
    """Exit 3 when a proof does not hold, 2 for a name that is not known."""
    unknown = [name for name in names if name not in PROOFS]
    if unknown:
        print(f"unknown proof {unknown}; there are {', '.join(PROOFS)}", file=sys.stderr)
        return 2
    results = [prove(name, PROOFS[name]) for name in names or PROOFS]
    return 0 if all(results) else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
