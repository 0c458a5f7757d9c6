"""Every table of the store. Instants are UTC text, money and quantities of money decimal text, enums their upper-case names."""

from typing import Any

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, MetaData, Table, Text, UniqueConstraint, text

metadata = MetaData()

# PostgreSQL sorts and compares texts by their bytes, as SQLite does, and counts as far.
_TEXT = Text().with_variant(Text(collation="C"), "postgresql")
_INTEGER = Integer().with_variant(BigInteger(), "postgresql")


def _text(name: str, *rules: Any, optional: bool = False, key: bool = False) -> "Column[str]":
    return Column(name, _TEXT, *rules, nullable=optional, primary_key=key)


def _integer(name: str, *, optional: bool = False, key: bool = False) -> "Column[int]":
    return Column(name, _INTEGER, nullable=optional, primary_key=key, autoincrement=False)


def _where(condition: Any) -> dict[str, Any]:
    return {"sqlite_where": condition, "postgresql_where": condition}


def _decision(*, key: bool = False) -> "Column[str]":
    return _text("decision_id", ForeignKey("candidate.decision_id"), key=key)


def _run(*, key: bool = False) -> "Column[str]":
    return _text("run_id", ForeignKey("pipeline_run.run_id"), key=key)


job_queue = Table(
    "job_queue",
    metadata,
    _integer("id", key=True),
    _text("queue"),
    _text("type"),
    _text("payload"),
    _integer("payload_version"),
    _text("status"),
    _integer("priority"),
    _text("run_at"),
    _integer("attempts"),
    _integer("crashes"),
    _integer("solo_crashes"),
    _integer("max_attempts"),
    _integer("epoch"),
    _text("lease_until", optional=True),
    _text("worker_id", optional=True),
    _integer("fence"),
    _text("dedup_key"),
    _integer("parent_id", optional=True),
    _text("trace_id"),
    _text("last_error", optional=True),
    _text("created_at"),
    _text("started_at", optional=True),
    _text("finished_at", optional=True),
    _text("errors", optional=True),
    UniqueConstraint("dedup_key", name="job_queue_dedup_key"),
)
# Partial indexes hold live rows only, so that finished rows cost nothing; each serves the one query that names its condition.
Index("job_queue_ready", job_queue.c.priority, job_queue.c.run_at, job_queue.c.id, **_where(text("status = 'READY'")))
Index("job_queue_ready_at", job_queue.c.run_at, **_where(text("status = 'READY'")))
Index("job_queue_scheduled_at", job_queue.c.run_at, **_where(text("status = 'SCHEDULED'")))
Index("job_queue_running", job_queue.c.id, **_where(text("status = 'RUNNING'")))
Index(
    "job_queue_quarantined",
    job_queue.c.priority,
    job_queue.c.run_at,
    job_queue.c.id,
    **_where(text("crashes >= 2 AND status IN ('READY', 'SCHEDULED')")),
)
Index("job_queue_done_at", job_queue.c.finished_at, **_where(text("status = 'DONE'")))
Index("job_queue_dead", job_queue.c.status, job_queue.c.id, **_where(text("status IN ('DEAD', 'PARKED')")))

pipeline_run = Table(
    "pipeline_run",
    metadata,
    _text("run_id", key=True),
    _text("entry"),
    _text("session_date"),
    _text("fired_at"),
    _text("state"),
    _integer("symbols"),
    _integer("candidates"),
    _integer("failed"),
    _text("reasons"),
    _text("reason"),
    _text("finished_at", optional=True),
    Index("pipeline_run_session", "session_date"),
)

symbol_run = Table(
    "symbol_run",
    metadata,
    _run(key=True),
    _text("symbol", key=True),
    _text("stage"),
    _text("state"),
    _text("reason"),
)

candidate = Table(
    "candidate",
    metadata,
    _text("decision_id", key=True),
    _run(),
    _text("symbol"),
    _text("session_date"),
    _text("direction"),
    _text("trace_id"),
    _text("as_of"),
    _text("facts"),
    Index("candidate_run", "run_id"),
    Index("candidate_session", "session_date", "symbol"),
)

feature_vector = Table(
    "feature_vector",
    metadata,
    _decision(key=True),
    _text("as_of"),
    _text("known_at"),
    _text("data_spec_hash"),
    _text("values"),
    _text("quality"),
)

prediction = Table(
    "prediction",
    metadata,
    _decision(key=True),
    _text("model_version"),
    _text("data_spec_hash"),
    Column("score", Float, nullable=False),
    _text("created_at"),
)

trade_plan = Table(
    "trade_plan",
    metadata,
    _decision(key=True),
    _run(),
    _text("symbol"),
    _text("side"),
    _integer("quantity"),
    _text("entry"),
    _text("entry_limit"),
    _text("stop"),
    _text("target"),
    _text("valid_until"),
    _text("reason"),
    Index("trade_plan_run", "run_id"),
)

risk_snapshot = Table(
    "risk_snapshot",
    metadata,
    _run(key=True),
    _text("at"),
    _text("trading_state"),
    _text("equity"),
    _text("session_open_equity"),
    _text("cash"),
    _text("exposures"),
    _text("locked_symbols"),
    _integer("orders_today"),
    _integer("messages_last_minute"),
    _text("ranked"),
    _text("strategy_lock", optional=True),
)

risk_decision = Table(
    "risk_decision",
    metadata,
    _decision(key=True),
    _run(),
    _integer("rank"),
    _text("verdict"),
    _text("code"),
    _text("limit_value"),
    _text("value"),
    _integer("quantity"),
    _text("notional"),
    _text("checks"),
    _text("at"),
    Index("risk_decision_run", "run_id"),
)

order_intent = Table(
    "order_intent",
    metadata,
    _text("client_order_id", key=True),
    _decision(),
    _text("parent_client_order_id", ForeignKey("order_intent.client_order_id"), optional=True),
    _text("leg"),
    _integer("generation"),
    _text("symbol"),
    _text("side"),
    _integer("quantity"),
    _text("type"),
    _text("limit_price", optional=True),
    _text("stop_price", optional=True),
    _text("order_class"),
    _text("time_in_force"),
    _integer("rank"),
    _text("reason"),
    _text("valid_until", optional=True),
    _text("committed_at"),
    UniqueConstraint("decision_id", "leg", "generation", name="order_intent_generation"),
    Index("order_intent_committed", "committed_at"),
)

broker_order = Table(
    "broker_order",
    metadata,
    _text("client_order_id", ForeignKey("order_intent.client_order_id"), key=True),
    _decision(),
    _text("symbol"),
    _text("parent_client_order_id", ForeignKey("order_intent.client_order_id"), optional=True),
    _text("leg"),
    _text("replaces", ForeignKey("order_intent.client_order_id"), optional=True),
    _text("broker_order_id", optional=True),
    _text("state"),
    _integer("filled_quantity"),
    _text("average_price", optional=True),
    _text("outcome", optional=True),
    _text("reason"),
    _integer("sends"),
    _text("sent_at", optional=True),
    _text("updated_at"),
    Index("broker_order_decision", "decision_id"),
    Index("broker_order_state", "state"),
    Index("broker_order_parent", "parent_client_order_id"),
    Index("broker_order_broker_id", "broker_order_id"),
)

fill = Table(
    "fill",
    metadata,
    _text("execution_id", key=True),
    _text("client_order_id", ForeignKey("order_intent.client_order_id")),
    _decision(),
    _text("symbol"),
    _text("side"),
    _integer("quantity"),
    _text("price"),
    _text("fee"),
    _text("filled_at"),
    Index("fill_order", "client_order_id"),
    Index("fill_decision", "decision_id"),
)

position = Table(
    "position",
    metadata,
    _text("symbol", key=True),
    _integer("quantity"),
    _text("cash_flow"),
    _text("fees"),
    _text("updated_at"),
)

account_snapshot = Table(
    "account_snapshot",
    metadata,
    _text("session_date", key=True),
    _text("kind", key=True),
    _text("at"),
    _text("cash"),
    _text("equity"),
    _integer("orders"),
    _integer("fills"),
)

decision_outcome = Table(
    "decision_outcome",
    metadata,
    _decision(key=True),
    _text("outcome"),
    _text("reason"),
    _text("at"),
)

decision_exit_record = Table("decision_exit_record", metadata, _decision(key=True), _text("kind"), _text("at"))

decision_event = Table(
    "decision_event",
    metadata,
    _integer("event_id", key=True),
    _text("subject_type"),
    _text("subject_id"),
    _integer("number"),
    _text("decision_id", optional=True),
    _text("trace_id"),
    _text("kind"),
    _text("at"),
    _text("build_hash"),
    _text("settings_hash"),
    _text("body"),
    _text("previous_hash"),
    _text("hash"),
    UniqueConstraint("subject_type", "subject_id", "number", name="decision_event_chain"),
    Index("decision_event_decision", "decision_id", **_where(text("decision_id IS NOT NULL"))),
    Index("decision_event_trace", "trace_id"),
)

audit_seal = Table(
    "audit_seal",
    metadata,
    _integer("number", key=True),
    _integer("first_event"),
    _integer("last_event"),
    _text("root_hash"),
    _text("previous_hash"),
    _text("at"),
)

consumer_offset = Table("consumer_offset", metadata, _text("consumer", key=True), _integer("seal_number"))

trading_state = Table(
    "trading_state", metadata, _integer("id", key=True), _text("state"), _text("reason"), _text("by"), _text("at")
)

symbol_lock = Table(
    "symbol_lock",
    metadata,
    _text("symbol", key=True),
    _text("state"),
    _text("reason"),
    _text("by"),
    _text("at"),
    _integer("external_quantity"),
    _text("external_orders"),
)

strategy_lock = Table(
    "strategy_lock", metadata, _text("strategy", key=True), _text("state"), _text("reason"), _text("by"), _text("at")
)

market_clock = Table("market_clock", metadata, _integer("id", key=True), _text("source_id"), _text("at"), _text("state"))

ledger_identity = Table(
    "ledger_identity",
    metadata,
    _integer("id", key=True),
    _text("ledger_id"),
    _text("account"),
    _integer("seed"),
    _text("replay_key"),
    _text("start_cash"),
    _text("settings_hash"),
    _text("started_at"),
)

# What the store counts for itself: `epoch` (process starts) and `next_job_id` (first id of the block not yet reserved).
meta = Table("meta", metadata, _text("key", key=True), _integer("value"))

# Who takes part where several processes share a store: one row a living process, and one named `leader`. `until` is in seconds of
# the server's clock. A file has one process, and no rows here.
lease = Table(
    "lease",
    metadata,
    _text("name", key=True),
    _integer("epoch"),
    _text("worker_id"),
    _text("services"),
    Column("until", Float, nullable=False),
    _text("build_hash", optional=True),
)

# A store that is not the one to use says so in one row: MOVED away to `address`, or an UNFINISHED copy of it; `ledger_id` and
# `epoch` are those of the store that was copied.
store_move = Table(
    "store_move",
    metadata,
    _integer("id", key=True),
    _text("state"),
    _text("address"),
    _text("ledger_id"),
    _integer("epoch"),
    _text("at"),
)

VIEWS = {
    "signal_outcome": """
        CREATE VIEW signal_outcome AS
        SELECT decision_id, outcome, reason, at FROM decision_outcome
        UNION ALL
        SELECT decision_id, NULL, 'PARKED', max(updated_at) FROM broker_order
        WHERE state = 'PARKED' AND decision_id NOT IN (SELECT decision_id FROM decision_outcome)
        GROUP BY decision_id
    """,
    "decision_exit": "CREATE VIEW decision_exit AS SELECT decision_id, kind, at FROM decision_exit_record",
}
