"""`finagent bench queue`: the durable queue beside SQLite alone, its prototype and its peers, like durability against like."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Any

from finagent.bench.children import Absent
from finagent.bench.contest import AtLeast, Below, Contest, Goal, Row, spread
from finagent.bench.peers import FOLDER
from finagent.bench.queue_trials import CARRIED, ON_POSTGRES, ON_REDIS, POSTGRES, SCRIPTS, Sizes, Trial, servers, trials
from finagent.domain.errors import BadInput, InvariantViolated


class QueuePart(StrEnum):
    """Parts of the contest that can be run alone."""

    drain = "drain"
    backlog = "backlog"
    postgres = "postgres"
    redis = "redis"
    callers = "callers"
    latency = "latency"
    history = "history"
    start = "start"


Reading = tuple[str, str]  # a trial and one of its figures
# Peers that keep less than FULL are met by ours on a writer with NORMAL, which no setting brings about.
PEERS = {
    "FULL": ("huey", "persist-queue", "pgqueuer", "procrastinate"),
    "NORMAL": ("litequeue", "pgqueuer-async", "arq", "streaq"),
}
SUFFIX = {"FULL": "", "NORMAL": " NORMAL"}
BACKLOG_GOALS: dict[str, tuple[Goal, ...]] = {
    "FULL": (AtLeast(8, "huey"), AtLeast(4, "pgqueuer")),
    "NORMAL": (AtLeast(10, "litequeue"),),
}
ALONE_GOALS: dict[str, tuple[Goal, ...]] = {"FULL": (AtLeast(1.3, "huey"),), "NORMAL": (AtLeast(2.5, "litequeue"),)}


@dataclass(frozen=True, slots=True)
class Figure:
    """One row to be: who is read, and what the figure is to reach."""

    part: QueuePart
    text: str
    unit: str
    ours: Reading
    floor: Reading | None
    peers: dict[str, Reading]
    goals: tuple[Goal, ...] = ()
    better: str = "higher"

    @property
    def trials(self) -> list[str]:
        """Every trial that the row needs, ours first."""
        return [self.ours[0], *([self.floor[0]] if self.floor else []), *(trial for trial, _ in self.peers.values())]


def figures(sizes: Sizes) -> list[Figure]:
    """The contest, in the order in which it is shown."""
    return [
        *_drained(sizes),
        *_backlogs(sizes),
        *_on_postgres(sizes),
        *_by_redis(sizes),
        *_called(sizes),
        *_waits(sizes),
        *_burdened(sizes),
    ]


def _read(names: Sequence[str], key: str) -> dict[str, Reading]:
    return {name: (name, key) for name in names}


def _drained(sizes: Sizes) -> Iterator[Figure]:
    drain = f"drain of {sizes.drained:,} jobs, 64 callers publish and 64 acknowledge, each awaiting its commit, FULL"
    prototypes = ("proto.py sa", "proto.py sqlite3")
    yield Figure(
        QueuePart.drain,
        drain,
        "jobs/s",
        ("drain", "jobs_per_s"),
        ("raw", "jobs_per_s"),
        _read((*prototypes, "AsyncSession per job"), "jobs_per_s"),
        (AtLeast(0.7, "proto.py sa"), AtLeast(20, "AsyncSession per job")),
    )
    yield Figure(
        QueuePart.drain,
        f"processor time of a job in the {drain}",
        "us",
        ("drain", "cpu_us"),
        ("raw", "cpu_us"),
        _read(prototypes, "cpu_us"),
        better="lower",
    )


def _backlogs(sizes: Sizes) -> Iterator[Figure]:
    for durability, suffix in SUFFIX.items():
        yield Figure(
            QueuePart.backlog,
            f"process a backlog of {sizes.jobs:,} jobs, {durability}",
            "jobs/s",
            (f"one caller{suffix}", "process"),
            (f"raw{suffix}", "process"),
            _read(PEERS[durability], "process"),
            BACKLOG_GOALS[durability],
        )


def _on_postgres(sizes: Sizes) -> Iterator[Figure]:
    yield Figure(
        QueuePart.postgres,
        f"process a backlog of {sizes.jobs:,} jobs on PostgreSQL, synchronous_commit on",
        "jobs/s",
        (POSTGRES, "process"),
        None,
        _read(("pgqueuer", "procrastinate"), "process"),
        (AtLeast(0.8, "pgqueuer"),),
    )


def _by_redis(sizes: Sizes) -> Iterator[Figure]:
    at_rate = f"at {sizes.carried_rate:,} jobs/s, Redis over PostgreSQL"
    for figure, key, goal in (
        ("time that the relay's XADD takes", "announce_p95_ms", Below(0.5)),
        ("wait from commit to handler start in another process", "p95_ms", Below(10)),
    ):
        yield Figure(QueuePart.redis, f"p95 {figure} {at_rate}", "ms", (CARRIED, key), None, {}, (goal,), better="lower")


def _called(sizes: Sizes) -> Iterator[Figure]:
    work = f"enqueue and process {sizes.jobs:,} jobs"
    for callers, ours, limit, goals in (
        ("one sequential caller", "one caller", "alone", ALONE_GOALS),
        ("8 callers", "8 callers", "eight", dict.fromkeys(SUFFIX, (AtLeast(4),))),
    ):
        for durability, suffix in SUFFIX.items():
            yield Figure(
                QueuePart.callers,
                f"{work}, {callers}, {durability}",
                "jobs/s",
                (f"{ours}{suffix}", "e2e"),
                (f"raw{suffix}", limit),
                _read(PEERS[durability], "e2e"),
                goals[durability],
            )


def _waits(sizes: Sizes) -> Iterator[Figure]:
    goals: dict[str, tuple[Goal, ...]] = {"p50": (), "p95": (Below(10),), "p99": (Below(25),)}
    for part, of_part in goals.items():
        yield Figure(
            QueuePart.latency,
            f"{part} wait from intended send to handler start at {sizes.rate:,} jobs/s, FULL",
            "ms",
            ("open loop", f"{part}_ms"),
            ("raw", "commit_ms"),
            {"proto.py sqlite3": ("proto.py open loop", f"{part}_ms")},
            of_part,
            better="lower",
        )


def _burdened(sizes: Sizes) -> Iterator[Figure]:
    """Ours beside ours with nothing else in the store."""
    waiting = f"{sizes.waiting:,} jobs waiting:"
    yield Figure(
        QueuePart.history,
        f"the same drain with {sizes.finished:,} finished rows present",
        "jobs/s",
        ("drain with history", "jobs_per_s"),
        None,
        {"ours with none": ("drain", "jobs_per_s")},
        (AtLeast(0.95, "ours with none"),),
    )
    yield Figure(
        QueuePart.start,
        f"{waiting} from opening the store to the first claimed jobs",
        "s",
        ("start", "seconds"),
        None,
        {"ours with none": ("start of an empty queue", "seconds")},
        (Below(5),),
        better="lower",
    )
    yield Figure(
        QueuePart.start,
        f"{waiting} largest memory of the process until then",
        "MiB",
        ("start", "peak_mib"),
        None,
        {"ours with none": ("start of an empty queue", "peak_mib")},
        (AtLeast(0.9, "ours with none"),),
        better="lower",
    )


def queue_contest(
    repeats: int, only: Sequence[QueuePart] = (), overrides: Sequence[str] = (), sizes: Sizes | None = None
) -> Contest:
    """Every trial takes its turn in each repeat; a peer that cannot take part is named with the reason."""
    if not SCRIPTS.is_dir():
        raise BadInput(f"{FOLDER} is missing: the peers' scripts come with a clone of the repository, not with the package")
    sizes = sizes or Sizes()
    wanted = [figure for figure in figures(sizes) if not only or figure.part in only]
    names = list(dict.fromkeys(name for figure in wanted for name in figure.trials))
    with tempfile.TemporaryDirectory(prefix="finagent-bench-queue-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)  # the database server runs as a user of its own
        everything = trials(sizes, overrides, folder)
        if not {*ON_POSTGRES, *ON_REDIS, POSTGRES, CARRIED}.isdisjoint(names):
            with servers(folder) as absent:
                return _measured(wanted, {name: everything[name] for name in names}, repeats, absent)
        return _measured(wanted, {name: everything[name] for name in names}, repeats, {})


def _measured(wanted: Sequence[Figure], entered: dict[str, Trial], repeats: int, absent: dict[str, str]) -> Contest:
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in entered}
    absent = {name: reason for name, reason in absent.items() if name in entered}
    for _ in range(repeats):
        for name, trial in entered.items():
            if name not in absent:
                try:
                    answers[name].append(trial())
                except Absent as reason:
                    absent[name] = str(reason)
    rows = [row(figure, answers, absent) for figure in wanted if figure.ours[0] not in {POSTGRES, CARRIED} & absent.keys()]
    return Contest(tuple(rows), tuple(f"{name}: {reason}" for name, reason in absent.items()))


def row(figure: Figure, answers: dict[str, list[dict[str, Any]]], absent: dict[str, str]) -> Row:
    """The medians of one figure; raises InvariantViolated when ours or the limit gave no answer."""
    for trial, _ in (figure.ours, figure.floor or figure.ours):
        if trial in absent:
            raise InvariantViolated(f"our own trial {trial!r} failed: {absent[trial]}")

    def middle(reading: Reading) -> float:
        trial, key = reading
        return float(median(answer[key] for answer in answers[trial]))

    measured = [float(answer[figure.ours[1]]) for answer in answers[figure.ours[0]]]
    return Row(
        figure=figure.text,
        unit=figure.unit,
        better=figure.better,
        ours=middle(figure.ours),
        floor=middle(figure.floor) if figure.floor else None,
        peers={name: middle(reading) for name, reading in figure.peers.items() if reading[0] not in absent},
        repeats=len(measured),
        spread=spread(measured),
        goals=figure.goals,
    )
