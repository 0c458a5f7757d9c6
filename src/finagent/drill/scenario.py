"""The day that a drill replays: enough candidates and orders to lose, and a broker that misbehaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path

from finagent.domain.errors import BadInput
from finagent.settings import ALPACA_KEYS, Settings, alpaca_keys, load_settings

DAY = "2008-07-03"
_MARKET = (
    "market_data.source=simulated",
    f"market_data.first_session={DAY}",
    f"market_data.last_session={DAY}",
    f"market_data.simulated.clustered_gap_date={DAY}",
    "market_data.simulated.symbols=250",
    "market_data.simulated.history_sessions=30",
    "scan.candidates_max=44",  # enough to lose, few enough for hundreds of replays
)
_LIMITS = (  # wide enough for many orders, narrow enough that some are cut and some refused
    "risk.positions_max=24",
    "risk.orders_per_day_max=60",
    "risk.position_fraction_max=0.06",
    "risk.sector_fraction_max=4",
    "risk.gross_leverage_max=1.5",
    "risk.portfolio.history_days_min=20",
    "risk.portfolio.beta_max=10",
)
_STORE = ("database.wal_autocheckpoint_pages=40",)  # many checkpoints in a short day
_BROKER = (  # a quarter of all submits get no usable answer
    "broker.partial_fill_rate=0.3",
    "broker.faults.dropped=0.1",
    "broker.faults.reply_lost=0.1",
    "broker.faults.late=0.05",
    "broker.faults.refused=0.03",
    "broker.faults.look_up_withheld=0.1",
    "broker.faults.cancel_dropped=0.1",
    "broker.faults.cancel_reply_lost=0.1",
    "broker.faults.execution_repeated=0.2",
    "broker.faults.activity_shuffled=0.3",
)


_ALPACA = (  # over HTTP, the SDK between: besides the broker's own faults, those of a network and of gateways
    "broker.kind=alpaca",
    "broker.account_id=PA1",
    "broker.stop_entry_brackets=false",
    "alpaca.settle_seconds=0",  # the simulator reads what a dead agent sent before it answers the next one
    "alpaca.requests_per_minute=1000000",  # budget, breaker and the pause after a 429 live in memory: a kill would end them, and
    "alpaca.breaker_failures=1000000",  # a replay that was killed would not equal one that was not
    "alpaca_simulator.port=0",
    "alpaca_simulator.faults.reset_before=0.03",
    "alpaca_simulator.faults.reset_after=0.03",
    "alpaca_simulator.faults.reset_at_byte=0.03",
    "alpaca_simulator.faults.truncated=0.03",
    "alpaca_simulator.faults.html_before=0.02",
    "alpaca_simulator.faults.html_after=0.02",
    "alpaca_simulator.faults.unknown_status=0.03",
    "alpaca_simulator.faults.late=0.03",
    "alpaca_simulator.faults.rejected=0.02",
    "alpaca_simulator.faults.cancel_lost=0.05",
    "alpaca_simulator.faults.cancel_late=0.05",
)


class Broker(Enum):
    """Which broker a drill has: the simulated one, or the same behind Alpaca's interface."""

    SIMULATED = "simulated"
    ALPACA = "alpaca"


@dataclass(frozen=True, slots=True)
class Scenario:
    """What all replays of a drill have in common. Brokers say in the folder `sockets` where they listen, which must have a short
    name; `application` names a factory with the signature of `build_application` (None: the agent as it is)."""

    seed: int
    sockets: Path
    application: str | None
    broker: Broker = Broker.SIMULATED

    def overrides(self, storage: Path) -> tuple[str, ...]:
        """The settings of a replay in the folder, as `--set` takes them."""
        places = (f"storage.directory={storage}", "http.enabled=false", f"replay.seed={self.seed}")
        return (*places, *self._where(storage), *_MARKET, *_LIMITS, *_STORE, *_BROKER)

    def _where(self, storage: Path) -> tuple[str, ...]:
        """Where the broker of the folder is."""
        if self.broker is Broker.SIMULATED:
            return (f"broker.address=unix:{self.broker_socket(storage)}",)
        place, address = self.broker_socket(storage), f"alpaca_simulator.directory={storage}"
        url = (f"alpaca.url={place.read_text()}",) if place.exists() else ()  # none yet for the broker itself
        return (*_ALPACA, address, f"alpaca.secrets_directory={self.sockets}", *url)

    def settings(self, storage: Path) -> Settings:
        """The same as a value; refuses any broker but the simulator."""
        settings = _loaded(self)
        place = self.broker_socket(storage)
        places: dict[str, dict[str, object]] = {"storage": {"directory": storage}}
        if self.broker is Broker.SIMULATED:
            places["broker"] = {"address": f"unix:{place}"}
        else:
            places["alpaca_simulator"] = {"directory": storage}
            places["alpaca"] = {"url": place.read_text() if place.exists() else None}
        return settings.model_copy(
            update={name: getattr(settings, name).model_copy(update=values) for name, values in places.items()}
        )

    def command(self, storage: Path) -> Sequence[str]:
        """What `python -m` is given for the real command on the folder; a named application stands in for it."""
        if self.application is not None:
            return ("finagent.drill.children", "agent", "--storage", str(storage), *self.arguments())
        sets = [part for override in self.overrides(storage) for part in ("--set", override)]
        return ("finagent.cli", "orchestrate", "--json", *sets)

    def arguments(self) -> Sequence[str]:
        """This scenario, as `finagent.drill.children` is told it."""
        named = ("--application", self.application) if self.application is not None else ()
        return ("--seed", str(self.seed), "--sockets", str(self.sockets), "--broker", self.broker.value, *named)

    def write_keys(self) -> None:
        """The keys of the simulated Alpaca, where agents look for them. Raises BadInput where the environment has others."""
        if self.broker is Broker.SIMULATED:
            return
        theirs = _loaded(self).alpaca_simulator
        for name, value in zip(ALPACA_KEYS, (theirs.key_id, theirs.secret), strict=True):
            (self.sockets / name.lower()).write_text(value)
        if alpaca_keys(_loaded(self)) != (theirs.key_id, theirs.secret):
            raise BadInput(f"unset {' and '.join(ALPACA_KEYS)}: a drill trades with keys of its own")

    def broker_socket(self, storage: Path) -> Path:
        """Where the broker of the folder listens, beside no other, under a name that fits a socket's address; a file with its URL
        where it speaks HTTP."""
        return self.sockets / f"{storage.parent.name}.sock"


@cache
def _loaded(scenario: Scenario) -> Settings:
    """Read once: it takes longer than a start of the agent."""
    settings = load_settings(overrides=scenario.overrides(Path("unused")))
    require_simulator(settings)
    return settings


def require_simulator(settings: Settings) -> None:
    """A drill kills agents with orders in flight: never against a broker that is not simulated."""
    if settings.on_wall_time:
        raise BadInput(f"orchestrate.mode is {settings.orchestrate.mode}: a drill runs against the simulated broker only")
