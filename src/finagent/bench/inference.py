"""`finagent bench inference`: Poisson load on the server of models, beside the same net asked one row at a time."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from finagent.adapters.models.onnx_predictor import TOLERANCE, OnnxPredictor
from finagent.adapters.models.package import open_package, write_package
from finagent.adapters.models.registry_files import RegistryFiles
from finagent.bench.contest import REPEATS_MIN, Below, Contest, Goal, NotBelow, Row, spread
from finagent.bench.convolution_net import COLUMNS, onnx_model, package_of, rows_of, unbatched_onnx, unbatched_torch, weights_of
from finagent.bench.poisson import Endured, Load, endured
from finagent.domain.bars import Floats
from finagent.domain.decision import DecisionEvent
from finagent.domain.errors import BadInput, InvariantViolated
from finagent.domain.experiment import Subject
from finagent.services.models.following import FollowPolicy, ModelFollower, ModelJournal, ModelSource
from finagent.services.models.serving import Handle, ModelServer, Serving, ServingPolicy

IDLE, IDLE_ASKS = "nearly nobody asks", 10
ROWS = 97  # windows that requests take turns with
CALL_SECONDS_MAX = 5.0  # calls are watched, as they are on wall time
OURS, ONNX, TORCH = "ours", "ONNX Runtime, unbatched", "torch, unbatched"
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
GOALS: dict[tuple[int, str], tuple[Goal, ...]] = {
    (500, "p95"): (Below(10.0),),
    (500, "p99"): (Below(20.0),),
}
LAG_GOAL, SUSTAINED_GOAL, RIGHT_GOAL, ROLLBACK_GOAL = Below(5.0), NotBelow(99.0), NotBelow(100.0), Below(1000.0)
SWAP_RATE, SWAP_PAUSE_SECONDS = 500.0, 0.002
SUBJECT = Subject("BENCH", date(2000, 1, 3))
NOW = datetime(2000, 1, 3, 14, 30, tzinfo=UTC)
Score = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: `seconds` of load at each of the `rates` a repeat, `swaps` of the model under load."""

    rates: tuple[int, ...] = (100, 500, 1500, 5000)
    seconds: float = 1.0
    swaps: int = 1000


@dataclass(frozen=True, slots=True)
class _Net:
    handle: Handle
    scores: Floats  # of each of the rows, alone


def inference_contest(
    repeats: int,
    policy: ServingPolicy,
    follow: FollowPolicy,
    effort: Effort = Effort(),
    torch: Callable[..., Score] = unbatched_torch,
) -> Contest:
    """Ours under these policies; raises InvariantViolated when a peer's scores are not those of our net to 1e-5."""
    if repeats < REPEATS_MIN:
        raise BadInput(f"{repeats} repeats say little: at least {REPEATS_MIN} are needed")
    rows, models = rows_of(ROWS), [onnx_model(weights_of(number)) for number in range(3)]
    peers, absent = {ONNX: unbatched_onnx(models[0])}, []
    try:
        peers[TORCH] = torch(weights_of(0))
    except ImportError as error:
        absent.append(f"{TORCH}: {error.name} is not installed")
    with TemporaryDirectory() as name:
        registry = RegistryFiles(Path(name) / "models", lambda package: OnnxPredictor(package, COLUMNS))
        for number, model in enumerate(models):
            write_package(Path(name) / str(number), package_of(number, model))
            registry.register(Path(name) / str(number))
        nets = [_net(registry, version, rows) for version in registry.versions()]
        for peer, score in peers.items():
            _require_same(peer, score, rows, nets[0].scores)
        loads = asyncio.run(_loads(nets[0], peers, rows, policy, effort, repeats))
        swapped = asyncio.run(_swapped(nets, rows, policy, effort))
        back = asyncio.run(_rolled_back(registry, nets, rows, policy, follow, repeats))
    table = [row for rate in effort.rates for row in _rows(rate, loads[rate], policy)]
    return Contest((*table, swapped, back), tuple(absent))


def _net(registry: RegistryFiles, version: str, rows: Floats) -> _Net:
    predictor = OnnxPredictor(open_package(registry.fetch(version)), COLUMNS, call_seconds_max=CALL_SECONDS_MAX)
    alone = np.concatenate([predictor.predict(rows[place : place + 1]).scores for place in range(len(rows))])
    return _Net(Handle.of(predictor, COLUMNS), alone)


def _require_same(peer: str, score: Score, rows: Floats, expected: Floats) -> None:
    worst = max(abs(float(score(rows[place : place + 1])[0]) - expected[place]) for place in range(len(rows)))
    if worst > TOLERANCE:
        raise InvariantViolated(f"{peer} scores otherwise, by {worst:.3g}: the contest would compare different work")


# -- latency ------------------------------------------------------------------------------------------------------------------


async def _loads(
    net: _Net, peers: dict[str, Score], rows: Floats, policy: ServingPolicy, effort: Effort, repeats: int
) -> dict[int, dict[str, list[Endured]]]:
    """By rate and contestant, one a repeat; in each repeat all take their turn."""
    found: dict[int, dict[str, list[Endured]]] = {rate: {name: [] for name in (OURS, IDLE, *peers)} for rate in effort.rates}
    idle = Load(IDLE_ASKS / effort.seconds, effort.seconds, policy.deadline_seconds)
    for repeat in range(repeats):
        for rate in effort.rates:
            load = Load(rate, effort.seconds, policy.deadline_seconds)
            async with _serving(net, policy) as server:
                found[rate][OURS].append(await endured(load, _ours(server, rows), repeat))
            found[rate][IDLE].append(await endured(idle, _at_once, repeat))
            for name, score in peers.items():
                found[rate][name].append(await _unbatched(load, score, rows, repeat))
    return found


async def _at_once(_number: int) -> bool:
    return True


@asynccontextmanager
async def _serving(net: _Net, policy: ServingPolicy) -> AsyncIterator[ModelServer]:
    server = ModelServer(COLUMNS, policy, [], time.perf_counter)
    server.serve(Serving(net.handle))
    async with server.running():
        await server.score(rows_of(1), [SUBJECT])
        yield server


def _ours(server: ModelServer, rows: Floats) -> Callable[[int], Awaitable[bool]]:
    async def ask(number: int) -> bool:
        place = number % len(rows)
        (score,) = await server.score(rows[place : place + 1], [SUBJECT])
        return not score.reason

    return ask


async def _unbatched(load: Load, score: Score, rows: Floats, seed: int) -> Endured:
    """One row at a time on one thread of its own, as ours has one."""
    loop, executor = asyncio.get_running_loop(), ThreadPoolExecutor(1)

    async def ask(number: int) -> bool:
        place = number % len(rows)
        await loop.run_in_executor(executor, score, rows[place : place + 1])
        return True

    await ask(0)
    try:
        return await endured(load, ask, seed)
    finally:
        executor.shutdown(cancel_futures=True)


def _loop_lag(seen: Endured) -> float:
    return seen.loop_lag_p99_ms


def _rows(rate: int, loads: dict[str, list[Endured]], policy: ServingPolicy) -> list[Row]:
    def row(figure: str, unit: str, better: str, told: Callable[[Endured], float], goals: tuple[Goal, ...]) -> Row:
        figures = {name: [told(each) for each in all_] for name, all_ in loads.items()}
        ours, idle = figures.pop(OURS), median(figures.pop(IDLE))
        peers = {name: median(each) for name, each in figures.items()}
        floor = idle if told is _loop_lag else None
        return Row(figure, unit, better, median(ours), floor, peers, len(ours), spread(ours), goals)

    rows = [
        row(
            f"latency at {rate:,} requests/s, {name}",
            "ms",
            "lower",
            partial(Endured.latency_ms, quantile=quantile),
            GOALS.get((rate, name), ()),
        )
        for name, quantile in QUANTILES.items()
    ]
    within = f"scored within {policy.deadline_seconds:g} s at {rate:,} requests/s"
    rows.append(row(within, "%", "higher", lambda each: 100 * each.answered, (SUSTAINED_GOAL,)))
    rows.append(
        row(
            f"event loop late at {rate:,} requests/s, p99; the limit is the same loop with nothing to do",
            "ms",
            "lower",
            _loop_lag,
            (LAG_GOAL,),
        )
    )
    return rows


# -- swaps --------------------------------------------------------------------------------------------------------------------


async def _swapped(nets: list[_Net], rows: Floats, policy: ServingPolicy, effort: Effort) -> Row:
    """Every reply is compared with what the version that it names says of that row alone."""
    expected = {net.handle.version: net.scores for net in nets}
    seen: set[str] = set()
    right = wrong = 0
    async with _serving(nets[0], policy) as server:

        async def ask(number: int) -> bool:
            nonlocal right, wrong
            place = number % len(rows)
            (score,) = await server.score(rows[place : place + 1], [SUBJECT])
            if not score.reason and abs(score.value - expected[score.version][place]) <= TOLERANCE:
                right += 1
                seen.add(score.version)
            else:
                wrong += 1
            return not score.reason

        async def swap() -> None:
            for number in range(effort.swaps):
                server.serve(Serving(nets[number % len(nets)].handle))
                await asyncio.sleep(SWAP_PAUSE_SECONDS)

        async with asyncio.TaskGroup() as tasks:
            swapping = tasks.create_task(swap())
            while not swapping.done():
                await endured(Load(SWAP_RATE, 0.25, policy.deadline_seconds), ask, right)
    if len(seen) < len(nets):
        raise InvariantViolated(f"only {', '.join(sorted(seen))} ever answered: nothing was swapped")
    figure = f"right replies of {right + wrong:,}, each by the one version it names, over {effort.swaps:,} swaps and rollbacks"
    return Row(figure, "%", "higher", 100 * right / (right + wrong), None, {}, 1, 0.0, (RIGHT_GOAL,))


async def _rolled_back(
    registry: RegistryFiles, nets: list[_Net], rows: Floats, policy: ServingPolicy, follow: FollowPolicy, repeats: int
) -> Row:
    """From the order to roll back to the first prediction of the version that was champion before, by way of the registry."""
    handles, taken = {net.handle.version: net.handle for net in nets}, []

    async def forgotten(_event: DecisionEvent) -> None: ...

    journal = ModelJournal(forgotten, frozenset, frozenset, lambda: NOW)
    first, second = registry.versions()[:2]
    registry.promote(first)
    async with _serving(nets[0], policy) as server:
        source = ModelSource(registry, handles.__getitem__, lambda _version: None, asyncio.to_thread)
        follower = ModelFollower(server, source, journal, follow)
        for _ in range(repeats):
            registry.promote(second)
            await follower.look()
            began = time.perf_counter()
            await asyncio.to_thread(registry.rollback)
            await follower.look(anew=True)
            (score,) = await server.score(rows[:1], [SUBJECT])
            taken.append((time.perf_counter() - began) * 1e3)
            if score.version != first:
                raise InvariantViolated(f"{score.version} answered after the rollback to {first}")
    return Row(
        "rollback to the first prediction", "ms", "lower", median(taken), None, {}, repeats, spread(taken), (ROLLBACK_GOAL,)
    )
