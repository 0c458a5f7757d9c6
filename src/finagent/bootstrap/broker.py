"""The broker that the settings name."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from finagent.adapters.broker.alpaca.policy import Keys, is_loopback, require_keys
from finagent.adapters.broker.simulated.broker import SimulatedBroker
from finagent.adapters.broker.simulated.client import SimulatedBrokerClient
from finagent.adapters.broker.simulated.policy import BrokerPolicy
from finagent.adapters.broker.simulated.transport import BrokerSocket, InProcessBroker, Transport
from finagent.bootstrap.store import make_folder
from finagent.domain.errors import BadInput
from finagent.domain.ports.clock import Clock
from finagent.domain.ports.market_data import MarketDataPort
from finagent.policies import alpaca_policies, broker_client_policy, broker_policy
from finagent.services.failpoints import Failpoints, unarmed
from finagent.settings import Settings, alpaca_keys
from finagent.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from finagent.adapters.broker.alpaca.client import AlpacaVenue
    from finagent.adapters.broker.alpaca.rest import AlpacaRest


def build_simulated_broker(settings: Settings, market: MarketDataPort, failpoints: Failpoints = unarmed) -> SimulatedBroker:
    """The simulated broker on its own ledger; for this process or for one of its own (see adapters.broker.simulated.server)."""
    return _on_ledger(settings.storage.directory, broker_policy(settings), settings, market, failpoints)


def build_alpaca_simulator(
    settings: Settings, market: MarketDataPort, failpoints: Failpoints = unarmed
) -> AbstractAsyncContextManager[str]:
    """Alpaca's interface before a simulated broker on a ledger of its own; serves while it is entered and gives its URL. Raises
    BadInput where the extra with its websockets is not installed."""
    try:
        import websockets  # noqa: F401 - uvicorn serves websockets with it

        from finagent.adapters.broker.alpaca_simulator.faults import FaultKind
        from finagent.adapters.broker.alpaca_simulator.halts import HaltingMarket
        from finagent.adapters.broker.alpaca_simulator.policy import AlpacaSimulatorPolicy, paper_number
        from finagent.adapters.broker.alpaca_simulator.server import alpaca_simulator
    except ModuleNotFoundError as error:
        raise BadInput(f"the simulated Alpaca needs {error.name}: pip install 'finagent[alpaca]'") from error
    simulator = settings.alpaca_simulator
    policy = AlpacaSimulatorPolicy(
        host=simulator.host,
        port=simulator.port,
        key_id=simulator.key_id,
        secret=simulator.secret,
        pace=simulator.pace,
        requests_per_minute=simulator.requests_per_minute,
        requests_by=simulator.requests_by,
        faulty_reads=simulator.pace > 0,
        corrected_bars=simulator.corrected_bars,
        halts=simulator.halts,
        fault_rates={FaultKind(name): rate for name, rate in simulator.faults.model_dump().items()},
        seed=settings.replay.seed,
    )
    make_folder("alpaca_simulator.directory", simulator.directory)
    terms = broker_policy(settings)
    terms = replace(terms, account_id=paper_number(terms.account_id), stop_entry_brackets=False)
    terms = replace(terms, double_fill_rate=simulator.double_fills)
    market = HaltingMarket(market, policy.seed, policy.halts)
    return alpaca_simulator(_on_ledger(simulator.directory, terms, settings, market, failpoints), terms, market, policy)


def _on_ledger(
    folder: Path, terms: BrokerPolicy, settings: Settings, market: MarketDataPort, failpoints: Failpoints
) -> SimulatedBroker:
    return SimulatedBroker(folder / "broker-simulator.db", market, terms, settings.replay.seed, failpoints)


def build_broker_client(
    settings: Settings, market: MarketDataPort, clock: Clock, metrics: Metrics
) -> "SimulatedBrokerClient | AlpacaVenue":
    """The broker as the agent sees it: Alpaca, or the simulated one at its address, or in this process when it has none."""
    broker = settings.broker
    if broker.kind == "alpaca":
        return _build_alpaca(settings, clock, metrics)
    transport: Transport = (
        InProcessBroker(build_simulated_broker(settings, market)) if broker.address is None else BrokerSocket(broker.address)
    )
    return SimulatedBrokerClient(clock, transport, broker_client_policy(settings), metrics.api_request)


def _build_alpaca(settings: Settings, clock: Clock, metrics: Metrics) -> "AlpacaVenue":
    """A replay moves the market of the Alpaca simulator; a minute of its budget is a minute of the market."""
    rest, policy = build_alpaca_rest(settings, metrics, lambda: clock.now().timestamp()), alpaca_policies(settings)[0]
    if not is_loopback(rest.url):
        raise BadInput(f"orchestrate.mode is replay, and nobody moves the market of {rest.url}: set alpaca.url")
    from finagent.adapters.broker.alpaca.client import AlpacaVenue

    return AlpacaVenue(rest, clock, policy, settings.broker.advance_seconds)


def build_alpaca_rest(settings: Settings, metrics: Metrics, seconds: Callable[[], float]) -> "AlpacaRest":
    """Calls of Alpaca; budget and breaker count in the `seconds` of a clock that does not go back. Raises BadInput where the SDK
    or the keys are missing, or the keys are of the other kind of account."""
    try:
        from finagent.adapters.broker.alpaca.rest import AlpacaRest
    except ModuleNotFoundError as error:
        raise BadInput("broker.kind is alpaca, and its client is missing: pip install 'finagent[alpaca]'") from error
    keys, policy = Keys(*alpaca_keys(settings)), alpaca_policies(settings)[1]
    require_keys(keys, live=policy.live)
    return AlpacaRest(policy, keys, seconds, metrics.api_request)
