"""What the children of a drill do: be the broker, or be the agent; and the program that forks them.

`python -m finagent.drill.children serve FD ...` is the fork server, `... agent ...` one cold agent of a named application.
"""

import argparse
import asyncio
import importlib
import json
import random
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

from finagent.adapters.broker.simulated.server import serve as serve_broker
from finagent.bootstrap import (
    Application,
    Wraps,
    build_alpaca_simulator,
    build_application,
    build_market,
    build_simulated_broker,
)
from finagent.domain.effect import Effect
from finagent.domain.errors import BadInput, Conflict
from finagent.domain.jobs import Job
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.ports.store import JobQueue
from finagent.domain.sessions import Session
from finagent.domain.time import to_text
from finagent.drill import fork_server
from finagent.drill.acknowledged import AcknowledgementLog, Promises
from finagent.drill.arming import AgentFailpoints, Arm, BrokerFailpoints
from finagent.drill.control import Control
from finagent.drill.course import COURSE, Course
from finagent.drill.image import judge
from finagent.drill.market import MarketInMemory
from finagent.drill.person import visit
from finagent.drill.scenario import Broker, Scenario
from finagent.services.progress import Onlookers
from finagent.services.scheduling.cron import CronEntry
from finagent.services.scheduling.trading_day import scan_minutes
from finagent.settings import Settings

FINISHED, UNFINISHED, BAD_INPUT = 0, 1, 2


# `build_application`, or what a planted bug puts in its place: settings and the same overrides in, the same result out.
ApplicationFactory = Callable[..., AbstractAsyncContextManager[Application]]


class ConflictCounter:
    """The job queue, with every compare-and-set conflict counted on the shared page."""

    def __init__(self, queue: JobQueue, control: Control) -> None:
        self._queue, self._control = queue, control

    def submit(self, effect: Effect, job: Job | None = None) -> Awaitable[list[Job]]:
        """As the queue's own."""
        future = asyncio.ensure_future(self._queue.submit(effect, job))
        future.add_done_callback(self._look)
        return future

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def _look(self, future: "asyncio.Future[list[Job]]") -> None:
        if not future.cancelled() and isinstance(future.exception(), Conflict):
            self._control.count_conflict()


@dataclass(frozen=True, slots=True)
class Children:
    """What a forked child does with the market, the code and the promises that it was born with."""

    scenario: Scenario
    market: MarketDataPort
    factory: ApplicationFactory
    promises: Promises

    def __call__(self, request: dict[str, Any]) -> int:
        """The exit code of the child."""
        settings = self.scenario.settings(Path(request["storage"]))
        if request["role"] == "image":
            return self._image(settings, request)
        with Control(Path(request["control"])) as control:
            if request["role"] == "broker":
                return self._broker(settings, BrokerFailpoints(control))
            failpoints = AgentFailpoints(control, Arm(**request["arm"]) if request["arm"] else None)
            course = CourseRecorder(failpoints)
            overrides = {
                "failpoints": failpoints,
                "jitter": jitter_of(request["jitter_milliseconds"]),
                "market": self.market,
                "observer": course,
                "wraps": Wraps(queue=lambda queue: _watched(queue, control, request["acknowledgements"]), visit=visit),
            }
            status = asyncio.run(run_agent(find_factory(request["application"]), settings, overrides))
            course.save(Path(request["control"]).with_name(COURSE))
            return status

    def _broker(self, settings: Settings, failpoints: BrokerFailpoints) -> int:
        """Until SIGTERM."""
        if self.scenario.broker is Broker.SIMULATED:
            serve_broker(build_simulated_broker(settings, self.market, failpoints), str(settings.broker.address))
        else:
            asyncio.run(serve_alpaca(settings, self.market, failpoints, self.scenario.broker_socket(settings.storage.directory)))
        return FINISHED

    def _image(self, settings: Settings, request: dict[str, Any]) -> int:
        """Start the agent on a crash image and leave the verdict in a file."""
        start = partial(self.factory, settings, market=self.market)
        verdict = asyncio.run(judge(settings.storage.directory, self.promises, request["lines"], start))
        Path(request["answer"]).write_text(json.dumps(asdict(verdict)))
        return FINISHED


async def serve_alpaca(settings: Settings, market: MarketDataPort, failpoints: BrokerFailpoints, place: Path) -> None:
    """The simulated Alpaca until SIGTERM; its URL stands at the place as soon as it answers there."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with build_alpaca_simulator(settings, market, failpoints) as url:
        unfinished = place.with_suffix(".new")
        unfinished.write_text(url)
        unfinished.replace(place)
        await stop.wait()


class CourseRecorder(Onlookers):
    """Notes where in the order of the labels each market time ended."""

    def __init__(self, failpoints: AgentFailpoints) -> None:
        super().__init__()
        self._failpoints = failpoints
        self._instants: list[tuple[str, int]] = []

    def instant(self, at: datetime, session: Session, done: int, total: int) -> None:
        self._instants.append((to_text(at), len(self._failpoints.passed)))

    def save(self, path: Path) -> None:
        """What this one process passed."""
        Course(tuple(self._failpoints.passed), tuple(self._instants)).save(path)


def _watched(queue: JobQueue, control: Control, acknowledgements: str | None) -> JobQueue:
    """The queue with its conflicts counted and, where a file is named, its acknowledgements written down."""
    if acknowledgements is not None:
        queue = cast(JobQueue, AcknowledgementLog(queue, Path(acknowledgements)))
    return cast(JobQueue, ConflictCounter(queue, control))


async def run_agent(factory: ApplicationFactory, settings: Settings, overrides: dict[str, Any]) -> int:
    """From start, or from where an earlier process was, to the end of the replay."""
    async with factory(settings, **overrides) as application:
        return FINISHED if await application.run() else UNFINISHED


def jitter_of(milliseconds: int) -> Callable[[], Awaitable[None]] | None:
    """A wait that nothing can foretell: what depends on the order of handlers comes to light. None for none."""

    async def jitter() -> None:
        await asyncio.sleep(random.SystemRandom().uniform(0.0, milliseconds / 1000.0))

    return jitter if milliseconds else None


def find_factory(name: str | None) -> ApplicationFactory:
    """`module:factory` as a callable; None: the application as it is. Raises BadInput for a name that leads nowhere."""
    if name is None:
        return build_application
    module, _, attribute = name.partition(":")
    try:
        factory: ApplicationFactory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"--application {name}: {error}") from error
    return factory


async def _market_of(settings: Settings) -> MarketInMemory:
    """The whole window in memory, with the facts that the agent and the broker ask for."""
    market = MarketInMemory(build_market(settings))
    entries = tuple(CronEntry(entry.name, entry.expression) for entry in settings.schedule)
    for session in market.sessions():
        await market.session_bars(session)
        for minutes in (scan_minutes(entries, session), ()):
            await market.prior_facts(session, minutes)
    return market


def main(arguments: list[str] | None = None) -> int:
    """The fork server, or one agent started from nothing."""
    parser = argparse.ArgumentParser(prog="python -m finagent.drill.children", description=__doc__)
    parser.add_argument("work", choices=("serve", "agent"))
    parser.add_argument("--connection", type=int, help="descriptor of the server's socket")
    parser.add_argument("--storage", type=Path, help="folder of the one agent")
    parser.add_argument("--sockets", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--broker", choices=[each.value for each in Broker], default=Broker.SIMULATED.value)
    parser.add_argument("--application")
    parser.add_argument("--promises", type=Path, help="what the callers of a recorded agent were told, to judge crash images by")
    given = parser.parse_args(arguments)
    scenario = Scenario(given.seed, given.sockets, given.application, Broker(given.broker))
    try:
        factory = find_factory(given.application)
    except BadInput as error:
        sys.stderr.write(f"{error}\n")
        return BAD_INPUT
    if given.work == "agent":
        return asyncio.run(run_agent(factory, scenario.settings(given.storage), {"wraps": Wraps(visit=visit)}))
    settings = scenario.settings(Path("unused"))
    if scenario.broker is Broker.ALPACA:  # imported once, not by every child
        importlib.import_module("finagent.adapters.broker.alpaca.client")
        importlib.import_module("finagent.adapters.broker.alpaca_simulator.server")
    promises = Promises(given.promises.read_bytes().splitlines() if given.promises else ())
    children = Children(scenario, asyncio.run(_market_of(settings)), factory, promises)
    with socket.socket(fileno=given.connection) as connection:
        fork_server.serve(connection, children)
    return 0


if __name__ == "__main__":
    sys.exit(main())
