"""`finagent status`: how things stand, with and without a running agent."""

from typing import TYPE_CHECKING, Any

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput, Unavailable

if TYPE_CHECKING:
    from finagent.settings import Settings
    from finagent.store_access import Store

ANSWER_SECONDS = 1.0
BROKER_SECONDS = 5.0  # the agent may have to ask the broker first


def status(settings_file: SettingsFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Trading state, start gate, queue, positions, open, UNRESOLVED and PARKED orders, last pass, model in use."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json
    from finagent.services.reporting.canonical import as_plain
    from finagent.store_access import reading

    with reading(settings) as store:
        document: dict[str, Any] = as_plain(_status(settings, store))
    if as_json:
        print_json(document)
    else:
        typer.echo("\n".join(_lines(document)))


def _status(settings: "Settings", store: "Store") -> dict[str, Any]:
    from finagent.domain.orders import BrokerOrder, OrderState, SendOutcome
    from finagent.domain.portfolio import AccountSnapshot, Position
    from finagent.domain.prediction import Prediction
    from finagent.domain.runs import PipelineRun
    from finagent.domain.trading_state import LedgerIdentity, LockState, MarketClock, StrategyLock, SymbolLock, TradingStateRecord
    from finagent.services.reporting.provenance import data_notice
    from finagent.store_access import HALT_FILE

    reads = store.reads
    orders = reads.find(BrokerOrder, state=[state for state in OrderState if state.live])
    runs = sorted(reads.find(PipelineRun), key=lambda run: run.fired_at)
    scored = sorted(reads.find(Prediction), key=lambda one: one.created_at)
    snapshots = sorted(reads.find(AccountSnapshot), key=lambda one: one.at)
    counts: dict[str, int] = {}
    for one in store.jobs.counts(store.now()):
        counts[one.status.value] = counts.get(one.status.value, 0) + one.jobs
    identity = reads.find(LedgerIdentity)
    return {
        "agent": _agent(settings),
        "trading_state": next(iter(reads.find(TradingStateRecord)), None),
        "held_back": _held_back(settings, store),
        "moved": store.moved,
        "locked_strategies": {lock.strategy: lock.reason for lock in reads.find(StrategyLock, state=LockState.LOCKED)},
        "locked_symbols": {lock.symbol: lock.reason for lock in reads.find(SymbolLock, state=LockState.LOCKED)},
        "halt_file": (settings.storage.directory / HALT_FILE).exists(),
        "notice": data_notice(reads),
        "ledger_id": identity[0].ledger_id if identity else None,
        "market_clock": next(iter(reads.find(MarketClock)), None),
        "queue": counts,
        "processes": store.participants,
        "positions": {one.symbol: one.quantity for one in reads.find(Position) if one.quantity},
        "orders_open": [
            _order(one) for one in orders if one.outcome is not SendOutcome.UNRESOLVED and one.state is not OrderState.PARKED
        ],
        "orders_unresolved": [
            _order(one) for one in orders if one.outcome is SendOutcome.UNRESOLVED and one.state is not OrderState.PARKED
        ],
        "orders_parked": [_order(one) for one in orders if one.state is OrderState.PARKED],
        "last_pass": runs[-1] if runs else None,
        "model": scored[-1].model_version if scored else None,
        "account": snapshots[-1] if snapshots else None,
    }


def _held_back(settings: "Settings", store: "Store") -> str:
    """Why the store is not to be traded on, as it stands; a running agent may know more."""
    from finagent.adapters.database.anchor import AnchorFile, objection

    try:
        return objection(AnchorFile(settings.anchor_path).read(), store.reads, shared=settings.storage.url is not None)
    except (BadInput, Unavailable) as error:
        return str(error)


def _agent(settings: "Settings") -> dict[str, Any]:
    from finagent.cli.control_client import NoAgent, NoAnswer, Presence, ask
    from finagent.store_access import CONTROL_SOCKET

    try:
        answer = ask(settings.storage.directory / CONTROL_SOCKET, "GET", "/control/status", None, ANSWER_SECONDS)
    except NoAgent:
        return {"presence": Presence.ABSENT, "start_gate": None}
    except NoAnswer as silence:
        return {"presence": Presence.NOT_ANSWERING, "start_gate": None, "why": str(silence)}
    found = {"presence": Presence.RUNNING, "start_gate": answer["start_gate"], "held_back": answer["held_back"]}
    return found | ({"broker_account": _broker_account(settings)} if settings.on_wall_time else {})


def _broker_account(settings: "Settings") -> dict[str, Any]:
    """What the broker says the account holds, or why it does not say."""
    from finagent.cli.control_client import NoAgent, NoAnswer, ask
    from finagent.store_access import CONTROL_SOCKET

    try:
        return ask(settings.storage.directory / CONTROL_SOCKET, "GET", "/control/account", None, BROKER_SECONDS)
    except (BadInput, NoAgent, NoAnswer) as silence:
        return {"why": str(silence)}


def _held_there(theirs: dict[str, Any]) -> str:
    if "why" in theirs:
        return f"not known: {theirs['why']}"
    account, held = theirs["account"], ", ".join(f"{one['symbol']} {one['quantity']}" for one in theirs["positions"])
    return (
        f"{held or 'flat'}; cash {account['cash']} USD, buying power {account['buying_power']} USD at {theirs['read_at'][:19]}Z"
    )


def _order(order: Any) -> dict[str, Any]:
    names = ("client_order_id", "symbol", "leg", "state", "filled_quantity", "decision_id")
    return {name: getattr(order, name) for name in names}


def _lines(document: dict[str, Any]) -> list[str]:
    state, clock, last, account = (document[name] for name in ("trading_state", "market_clock", "last_pass", "account"))
    agent = document["agent"]
    gate = f", start gate {agent['start_gate']}" if agent["start_gate"] else ""
    lines = [f"agent          {agent['presence'].replace('_', ' ').lower()}{gate}"]
    if state:
        lines.append(f"trading state  {state['state']}: {state['reason']} (by {state['by']}, {state['at'][:19]}Z)")
    held_back = agent.get("held_back") or document["held_back"]
    if held_back:
        cure = "until `finagent db accept`" if document["held_back"] else "while it lasts"
        lines.append(f"HELD BACK      {held_back}: no new risk {cure}")
    for strategy, reason in document["locked_strategies"].items():
        lines.append(f"LOCKED         strategy {strategy}: {reason}; `finagent arm --strategy {strategy}`")
    for symbol, reason in document["locked_symbols"].items():
        lines.append(f"LOCKED         {symbol}: {reason}; `finagent reconcile`")
    if document["moved"]:
        lines.append(f"MOVED          {document['moved']}")
    if document["halt_file"]:
        lines.append("HALT file      present: no new risk leaves until `finagent arm`")
    if clock:
        lines.append(f"market time    {clock['at'][:19]}Z, {clock['state'].lower()}")
    if account:
        lines.append(f"account        equity {account['equity']} USD, cash {account['cash']} USD at {account['at'][:19]}Z")
    if theirs := agent.get("broker_account"):
        lines.append(f"at the broker  {_held_there(theirs)}")
    if last:
        lines.append(f"last pass      {last['entry']} {last['fired_at'][:19]}Z {last['state']}, {last['candidates']} candidates")
    lines.append(f"data           {document['notice']}")
    lines.append(f"model          {document['model'] or 'none yet'}")
    lines.append("queue          " + (", ".join(f"{count} {name}" for name, count in document["queue"].items()) or "empty"))
    lines += [
        f"process        {one['name']}: {one['worker_id']}, {', '.join(one['services'])}; lease {one['lease_left_seconds']:.0f} s"
        for one in document["processes"]
        if one["name"] != "leader"
    ]
    lines.append(
        "positions      " + (", ".join(f"{name} {quantity}" for name, quantity in document["positions"].items()) or "flat")
    )
    for title, name in (("open", "orders_open"), ("UNRESOLVED", "orders_unresolved"), ("PARKED", "orders_parked")):
        lines += [
            f"order {title:<8} {one['symbol']} {one['leg']} {one['state']}  {one['client_order_id']}" for one in document[name]
        ]
    return lines
