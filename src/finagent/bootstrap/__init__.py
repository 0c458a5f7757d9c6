"""The one composition root: the only rooms that name concrete adapters."""

from finagent.bootstrap.application import Application, build_application
from finagent.bootstrap.broker import build_alpaca_simulator, build_simulated_broker
from finagent.bootstrap.features import build_daily_features, build_feature_cache, build_return_history, open_feature_store
from finagent.bootstrap.live import open_market
from finagent.bootstrap.market import build_market, open_news, scan_past
from finagent.bootstrap.models import build_predictor, open_registry, review_challenger
from finagent.bootstrap.parts import Parts, Wraps
from finagent.bootstrap.store import GUEST, build_audit, build_hash, build_job_queue, build_shared_queue, upgrade_store
from finagent.bootstrap.worker import build_worker

__all__ = [
    "GUEST",
    "Application",
    "Parts",
    "Wraps",
    "build_alpaca_simulator",
    "build_application",
    "build_audit",
    "build_daily_features",
    "build_feature_cache",
    "build_hash",
    "build_job_queue",
    "build_market",
    "build_predictor",
    "build_return_history",
    "build_shared_queue",
    "build_simulated_broker",
    "build_worker",
    "open_feature_store",
    "open_market",
    "open_news",
    "open_registry",
    "review_challenger",
    "scan_past",
    "upgrade_store",
]
