"""The first tables: queue, runs, decisions, orders, the chains of events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# PostgreSQL sorts and compares texts by their bytes, as SQLite does, and counts as far.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def where(condition: sa.TextClause) -> dict[str, sa.TextClause]:
    """A partial index holds only rows that meet the condition."""
    return {"sqlite_where": condition, "postgresql_where": condition}


def upgrade() -> None:
    op.create_table(
        "account_snapshot",
        sa.Column("session_date", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("at", TEXT, nullable=False),
        sa.Column("cash", TEXT, nullable=False),
        sa.Column("equity", TEXT, nullable=False),
        sa.Column("orders", INTEGER, autoincrement=False, nullable=False),
        sa.Column("fills", INTEGER, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("session_date", "kind"),
    )
    op.create_table(
        "audit_seal",
        sa.Column("number", INTEGER, autoincrement=False, nullable=False),
        sa.Column("first_event", INTEGER, autoincrement=False, nullable=False),
        sa.Column("last_event", INTEGER, autoincrement=False, nullable=False),
        sa.Column("root_hash", TEXT, nullable=False),
        sa.Column("previous_hash", TEXT, nullable=False),
        sa.Column("at", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_table(
        "consumer_offset",
        sa.Column("consumer", TEXT, nullable=False),
        sa.Column("seal_number", INTEGER, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("consumer"),
    )
    op.create_table(
        "decision_event",
        sa.Column("event_id", INTEGER, autoincrement=False, nullable=False),
        sa.Column("subject_type", TEXT, nullable=False),
        sa.Column("subject_id", TEXT, nullable=False),
        sa.Column("number", INTEGER, autoincrement=False, nullable=False),
        sa.Column("decision_id", TEXT, nullable=True),
        sa.Column("trace_id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("at", TEXT, nullable=False),
        sa.Column("build_hash", TEXT, nullable=False),
        sa.Column("settings_hash", TEXT, nullable=False),
        sa.Column("body", TEXT, nullable=False),
        sa.Column("previous_hash", TEXT, nullable=False),
        sa.Column("hash", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
        sa.UniqueConstraint("subject_type", "subject_id", "number", name="decision_event_chain"),
    )
    op.create_index("decision_event_decision", "decision_event", ["decision_id"], **where(sa.text("decision_id IS NOT NULL")))
    op.create_index("decision_event_trace", "decision_event", ["trace_id"])

    op.create_table(
        "job_queue",
        sa.Column("id", INTEGER, autoincrement=False, nullable=False),
        sa.Column("queue", TEXT, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("payload", TEXT, nullable=False),
        sa.Column("payload_version", INTEGER, autoincrement=False, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("priority", INTEGER, autoincrement=False, nullable=False),
        sa.Column("run_at", TEXT, nullable=False),
        sa.Column("attempts", INTEGER, autoincrement=False, nullable=False),
        sa.Column("crashes", INTEGER, autoincrement=False, nullable=False),
        sa.Column("solo_crashes", INTEGER, autoincrement=False, nullable=False),
        sa.Column("max_attempts", INTEGER, autoincrement=False, nullable=False),
        sa.Column("epoch", INTEGER, autoincrement=False, nullable=False),
        sa.Column("lease_until", TEXT, nullable=True),
        sa.Column("worker_id", TEXT, nullable=True),
        sa.Column("fence", INTEGER, autoincrement=False, nullable=False),
        sa.Column("dedup_key", TEXT, nullable=False),
        sa.Column("parent_id", INTEGER, autoincrement=False, nullable=True),
        sa.Column("trace_id", TEXT, nullable=False),
        sa.Column("last_error", TEXT, nullable=True),
        sa.Column("created_at", TEXT, nullable=False),
        sa.Column("started_at", TEXT, nullable=True),
        sa.Column("finished_at", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("dedup_key", name="job_queue_dedup_key"),
    )
    op.create_index("job_queue_dead", "job_queue", ["status", "id"], **where(sa.text("status IN ('DEAD', 'PARKED')")))
    op.create_index("job_queue_done_at", "job_queue", ["finished_at"], **where(sa.text("status = 'DONE'")))
    op.create_index(
        "job_queue_quarantined",
        "job_queue",
        ["priority", "run_at", "id"],
        **where(sa.text("crashes >= 2 AND status IN ('READY', 'SCHEDULED')")),
    )
    op.create_index("job_queue_ready", "job_queue", ["priority", "run_at", "id"], **where(sa.text("status = 'READY'")))
    op.create_index("job_queue_ready_at", "job_queue", ["run_at"], **where(sa.text("status = 'READY'")))
    op.create_index("job_queue_running", "job_queue", ["id"], **where(sa.text("status = 'RUNNING'")))
    op.create_index("job_queue_scheduled_at", "job_queue", ["run_at"], **where(sa.text("status = 'SCHEDULED'")))

    op.create_table(
        "ledger_identity",
        sa.Column("id", INTEGER, autoincrement=False, nullable=False),
        sa.Column("ledger_id", TEXT, nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("seed", INTEGER, autoincrement=False, nullable=False),
        sa.Column("replay_key", TEXT, nullable=False),
        sa.Column("start_cash", TEXT, nullable=False),
        sa.Column("settings_hash", TEXT, nullable=False),
        sa.Column("started_at", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "market_clock",
        sa.Column("id", INTEGER, autoincrement=False, nullable=False),
        sa.Column("source_id", TEXT, nullable=False),
        sa.Column("at", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "meta",
        sa.Column("key", TEXT, nullable=False),
        sa.Column("value", INTEGER, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "pipeline_run",
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("entry", TEXT, nullable=False),
        sa.Column("session_date", TEXT, nullable=False),
        sa.Column("fired_at", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("symbols", INTEGER, autoincrement=False, nullable=False),
        sa.Column("candidates", INTEGER, autoincrement=False, nullable=False),
        sa.Column("failed", INTEGER, autoincrement=False, nullable=False),
        sa.Column("reasons", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("finished_at", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("run_id"),
    )
    op.create_index("pipeline_run_session", "pipeline_run", ["session_date"])

    op.create_table(
        "position",
        sa.Column("symbol", TEXT, nullable=False),
        sa.Column("quantity", INTEGER, autoincrement=False, nullable=False),
        sa.Column("cash_flow", TEXT, nullable=False),
        sa.Column("fees", TEXT, nullable=False),
        sa.Column("updated_at", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("symbol"),
    )
    op.create_table(
        "trading_state",
        sa.Column("id", INTEGER, autoincrement=False, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("by", TEXT, nullable=False),
        sa.Column("at", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "candidate",
        sa.Column("decision_id", TEXT, nullable=False),
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("symbol", TEXT, nullable=False),
        sa.Column("session_date", TEXT, nullable=False),
        sa.Column("direction", TEXT, nullable=False),
        sa.Column("trace_id", TEXT, nullable=False),
        sa.Column("as_of", TEXT, nullable=False),
        sa.Column("facts", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["pipeline_run.run_id"],
        ),
        sa.PrimaryKeyConstraint("decision_id"),
    )
    op.create_index("candidate_run", "candidate", ["run_id"])
    op.create_index("candidate_session", "candidate", ["session_date", "symbol"])

    op.create_table(
        "risk_snapshot",
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("at", TEXT, nullable=False),
        sa.Column("trading_state", TEXT, nullable=False),
        sa.Column("equity", TEXT, nullable=False),
        sa.Column("session_open_equity", TEXT, nullable=False),
        sa.Column("cash", TEXT, nullable=False),
        sa.Column("exposures", TEXT, nullable=False),
        sa.Column("locked_symbols", TEXT, nullable=False),
        sa.Column("orders_today", INTEGER, autoincrement=False, nullable=False),
        sa.Column("messages_last_minute", INTEGER, autoincrement=False, nullable=False),
        sa.Column("ranked", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["pipeline_run.run_id"],
        ),
        sa.PrimaryKeyConstraint("run_id"),
    )
    op.create_table(
        "symbol_run",
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("symbol", TEXT, nullable=False),
        sa.Column("stage", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["pipeline_run.run_id"],
        ),
        sa.PrimaryKeyConstraint("run_id", "symbol"),
    )
    op.create_table(
        "decision_exit_record",
        sa.Column("decision_id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("at", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["decision_id"],
            ["candidate.decision_id"],
        ),
        sa.PrimaryKeyConstraint("decision_id"),
    )
    op.create_table(
        "decision_outcome",
        sa.Column("decision_id", TEXT, nullable=False),
        sa.Column("outcome", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("at", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["decision_id"],
            ["candidate.decision_id"],
        ),
        sa.PrimaryKeyConstraint("decision_id"),
    )
    op.create_table(
        "feature_vector",
        sa.Column("decision_id", TEXT, nullable=False),
        sa.Column("as_of", TEXT, nullable=False),
        sa.Column("known_at", TEXT, nullable=False),
        sa.Column("data_spec_hash", TEXT, nullable=False),
        sa.Column("values", TEXT, nullable=False),
        sa.Column("quality", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["decision_id"],
            ["candidate.decision_id"],
        ),
        sa.PrimaryKeyConstraint("decision_id"),
    )
    op.create_table(
        "order_intent",
        sa.Column("client_order_id", TEXT, nullable=False),
        sa.Column("decision_id", TEXT, nullable=False),
        sa.Column("parent_client_order_id", TEXT, nullable=True),
        sa.Column("leg", TEXT, nullable=False),
        sa.Column("generation", INTEGER, autoincrement=False, nullable=False),
        sa.Column("symbol", TEXT, nullable=False),
        sa.Column("side", TEXT, nullable=False),
        sa.Column("quantity", INTEGER, autoincrement=False, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("limit_price", TEXT, nullable=True),
        sa.Column("stop_price", TEXT, nullable=True),
        sa.Column("order_class", TEXT, nullable=False),
        sa.Column("time_in_force", TEXT, nullable=False),
        sa.Column("rank", INTEGER, autoincrement=False, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("valid_until", TEXT, nullable=True),
        sa.Column("committed_at", TEXT, nullable=False),
        sa.UniqueConstraint("decision_id", "leg", "generation", name="order_intent_generation"),
        sa.ForeignKeyConstraint(
            ["decision_id"],
            ["candidate.decision_id"],
        ),
        sa.ForeignKeyConstraint(
            ["parent_client_order_id"],
            ["order_intent.client_order_id"],
        ),
        sa.PrimaryKeyConstraint("client_order_id"),
    )
    op.create_index("order_intent_committed", "order_intent", ["committed_at"])

    op.create_table(
        "prediction",
        sa.Column("decision_id", TEXT, nullable=False),
        sa.Column("model_version", TEXT, nullable=False),
        sa.Column("data_spec_hash", TEXT, nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("created_at", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["decision_id"],
            ["candidate.decision_id"],
        ),
        sa.PrimaryKeyConstraint("decision_id"),
    )
    op.create_table(
        "risk_decision",
        sa.Column("decision_id", TEXT, nullable=False),
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("rank", INTEGER, autoincrement=False, nullable=False),
        sa.Column("verdict", TEXT, nullable=False),
        sa.Column("code", TEXT, nullable=False),
        sa.Column("limit_value", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("quantity", INTEGER, autoincrement=False, nullable=False),
        sa.Column("notional", TEXT, nullable=False),
        sa.Column("checks", TEXT, nullable=False),
        sa.Column("at", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["decision_id"],
            ["candidate.decision_id"],
        ),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["pipeline_run.run_id"],
        ),
        sa.PrimaryKeyConstraint("decision_id"),
    )
    op.create_index("risk_decision_run", "risk_decision", ["run_id"])

    op.create_table(
        "trade_plan",
        sa.Column("decision_id", TEXT, nullable=False),
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("symbol", TEXT, nullable=False),
        sa.Column("side", TEXT, nullable=False),
        sa.Column("quantity", INTEGER, autoincrement=False, nullable=False),
        sa.Column("entry", TEXT, nullable=False),
        sa.Column("entry_limit", TEXT, nullable=False),
        sa.Column("stop", TEXT, nullable=False),
        sa.Column("target", TEXT, nullable=False),
        sa.Column("valid_until", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["decision_id"],
            ["candidate.decision_id"],
        ),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["pipeline_run.run_id"],
        ),
        sa.PrimaryKeyConstraint("decision_id"),
    )
    op.create_index("trade_plan_run", "trade_plan", ["run_id"])

    op.create_table(
        "broker_order",
        sa.Column("client_order_id", TEXT, nullable=False),
        sa.Column("decision_id", TEXT, nullable=False),
        sa.Column("symbol", TEXT, nullable=False),
        sa.Column("parent_client_order_id", TEXT, nullable=True),
        sa.Column("leg", TEXT, nullable=False),
        sa.Column("replaces", TEXT, nullable=True),
        sa.Column("broker_order_id", TEXT, nullable=True),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("filled_quantity", INTEGER, autoincrement=False, nullable=False),
        sa.Column("average_price", TEXT, nullable=True),
        sa.Column("outcome", TEXT, nullable=True),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("sends", INTEGER, autoincrement=False, nullable=False),
        sa.Column("sent_at", TEXT, nullable=True),
        sa.Column("updated_at", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["client_order_id"],
            ["order_intent.client_order_id"],
        ),
        sa.ForeignKeyConstraint(
            ["decision_id"],
            ["candidate.decision_id"],
        ),
        sa.ForeignKeyConstraint(
            ["parent_client_order_id"],
            ["order_intent.client_order_id"],
        ),
        sa.ForeignKeyConstraint(
            ["replaces"],
            ["order_intent.client_order_id"],
        ),
        sa.PrimaryKeyConstraint("client_order_id"),
    )
    op.create_index("broker_order_broker_id", "broker_order", ["broker_order_id"])
    op.create_index("broker_order_decision", "broker_order", ["decision_id"])
    op.create_index("broker_order_parent", "broker_order", ["parent_client_order_id"])
    op.create_index("broker_order_state", "broker_order", ["state"])

    op.create_table(
        "fill",
        sa.Column("execution_id", TEXT, nullable=False),
        sa.Column("client_order_id", TEXT, nullable=False),
        sa.Column("decision_id", TEXT, nullable=False),
        sa.Column("symbol", TEXT, nullable=False),
        sa.Column("side", TEXT, nullable=False),
        sa.Column("quantity", INTEGER, autoincrement=False, nullable=False),
        sa.Column("price", TEXT, nullable=False),
        sa.Column("fee", TEXT, nullable=False),
        sa.Column("filled_at", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["client_order_id"],
            ["order_intent.client_order_id"],
        ),
        sa.ForeignKeyConstraint(
            ["decision_id"],
            ["candidate.decision_id"],
        ),
        sa.PrimaryKeyConstraint("execution_id"),
    )
    op.create_index("fill_decision", "fill", ["decision_id"])
    op.create_index("fill_order", "fill", ["client_order_id"])
    op.execute("""
        CREATE VIEW signal_outcome AS
        SELECT decision_id, outcome, reason, at FROM decision_outcome
        UNION ALL
        SELECT decision_id, NULL, 'PARKED', max(updated_at) FROM broker_order
        WHERE state = 'PARKED' AND decision_id NOT IN (SELECT decision_id FROM decision_outcome)
        GROUP BY decision_id
    """)
    op.execute("CREATE VIEW decision_exit AS SELECT decision_id, kind, at FROM decision_exit_record")


def downgrade() -> None:
    for view in ("decision_exit", "signal_outcome"):
        op.execute(f"DROP VIEW {view}")
    for table in (
        "fill",
        "broker_order",
        "trade_plan",
        "risk_decision",
        "prediction",
        "order_intent",
        "feature_vector",
        "decision_outcome",
        "decision_exit_record",
        "symbol_run",
        "risk_snapshot",
        "candidate",
        "trading_state",
        "position",
        "pipeline_run",
        "meta",
        "market_clock",
        "ledger_identity",
        "job_queue",
        "decision_event",
        "consumer_offset",
        "audit_seal",
        "account_snapshot",
    ):
        op.drop_table(table)
