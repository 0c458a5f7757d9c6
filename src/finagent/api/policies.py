"""The faces' own policies, from the settings."""

from finagent.services.health import ReadinessPolicy
from finagent.services.reporting.publisher import ReportPolicy
from finagent.settings import Settings
from finagent.telemetry.loop_watchdog import WatchdogPolicy


def watchdog_policy(settings: Settings) -> WatchdogPolicy:
    """When the event loop counts as late."""
    telemetry = settings.telemetry
    return WatchdogPolicy(
        telemetry.loop_interval_seconds,
        telemetry.loop_stall_seconds,
        telemetry.loop_dump_seconds,
        telemetry.loop_exit_seconds,
    )


def readiness_policy(settings: Settings) -> ReadinessPolicy:
    """When the agent counts as not doing its work."""
    health = settings.health
    return ReadinessPolicy(
        health.pass_age_seconds_max, health.bar_age_seconds_max, health.queue_age_seconds_max, health.loop_lag_seconds_max
    )


def report_policy(settings: Settings) -> ReportPolicy:
    """How large a report may grow."""
    return ReportPolicy(settings.report.trade_charts_max)
