"""The agent's figures for Prometheus: prefix `finagent_`, units in the names, every label from a bounded set."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from finagent.domain.decision import SignalOutcome
from finagent.domain.jobs import JOB_TYPES, JobStatus
from finagent.domain.orders import SendOutcome
from finagent.domain.trading_state import StartGate, TradingState

OTHER = "other"
REFUSALS = ("queue_full", "timed_out", "no_model", "failed", "no_score")
FEATURES_FOUND = ("MEMORY", "STORE", "COMPUTED")
TARGETS_MAX = 16
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """All series of one process, in a registry of its own. Safe from any thread; never raises for a label it does not know."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._before_scrape: list[Callable[[], None]] = []
        self._targets: set[str] = set()
        self.job_duration = self._histogram("job_duration_seconds", "A handler, from claim to commit.", ("type",))
        self.job_wait = self._histogram("job_wait_seconds", "A job, from due to claimed.", ("type",))
        self.jobs = self._gauge("jobs", "Rows of the queue.", ("status",))
        self.job_retries = self._counter("job_retries", "Handler failures that will be tried again.", ("type",))
        self.jobs_dead = self._counter("jobs_dead", "Jobs given up.", ("type",))
        self.commit_duration = self._histogram("commit_duration_seconds", "One group commit.")
        self.commit_group_size = self._histogram("commit_group_size", "Effects in one commit.", buckets=_SIZES)
        self.announce_duration = self._histogram("queue_announce_duration_seconds", "Telling Redis what a commit left waiting.")
        self.redis_away = self._gauge("queue_redis_away", "1 while jobs are claimed without Redis, which does not answer.")
        self.scan_duration = self._histogram("scan_duration_seconds", "One pass over the universe.")
        self.feature_reads = self._counter("feature_reads", "Questions for features of days, by where they were.", ("found",))
        self.inference_duration = self._histogram("inference_duration_seconds", "One batch of scores.")
        self.inference_batch_size = self._histogram("inference_batch_size", "Rows in one batch of scores.", buckets=_SIZES)
        self.inference_queue_depth = self._gauge("inference_queue_depth", "Rows that wait for a score.")
        self.inference_refused = self._counter("inference_refused", "Rows without a score, by the reason.", ("reason",))
        self.model_demotions = self._counter("model_demotions", "Champions that breached a guard and were taken away.")
        self.training_success = self._gauge("training_success_ratio", "Trainings that came to their end, of the last commands.")
        self.api_requests = self._counter("api_requests", "Requests to the outside.", ("target", "outcome"))
        self.api_retries = self._counter("api_retries", "Requests tried again.", ("target",))
        self.orders = self._counter("orders", "Ended sends.", ("outcome",))
        self.orders_unresolved = self._gauge("orders_unresolved", "Sends whose outcome is not known.")
        self.candidates = self._counter("candidates", "Candidates committed.")
        self.signals = self._counter("signals", "Signal outcomes committed.", ("outcome",))
        self.risk_verdicts = self._counter("risk_verdicts", "Verdicts of the gate, by what decided.", ("verdict", "code"))
        self.fills = self._counter("fills", "Executions applied.")
        self.equity = self._gauge("equity_usd", "Equity at the last snapshot.")
        self.event_loop_lag = self._gauge("event_loop_lag_seconds", "How late the event loop last turned.")
        self.event_loop_delay = self._histogram("event_loop_delay_seconds", "How late the event loop turned, each time.")
        self.bar_age = self._gauge("bar_age_seconds", "Since a bar was last seen.")
        self.last_pass_age = self._gauge("last_pass_age_seconds", "Since a pass of the pipeline was last completed.")
        self.market_time = self._gauge("market_time_seconds", "Market time, as seconds since 1970.")
        self.replay_progress = self._gauge("replay_progress_ratio", "Instants done of all instants.")
        self.trading_state = self._gauge("trading_state", "1 for the state in force.", ("state",))
        self.start_gate = self._gauge("start_gate", "1 for the gate's position.", ("gate",))
        self.wal_bytes = self._gauge("wal_bytes", "Size of the write-ahead log.")
        self.log_lines_lost = self._gauge("log_lines_lost", "Lines of the log that could not be written, since the start.")
        self._preset()

    # -- what happened -------------------------------------------------------------------------------------------------------

    def committed(self, group_size: int, duration_seconds: float) -> None:
        """The writer's hook: one group commit."""
        self.commit_duration.observe(duration_seconds)
        self.commit_group_size.observe(group_size)

    def announced(self, duration_seconds: float) -> None:
        """The relay's hook: one batch of announcements has arrived."""
        self.announce_duration.observe(duration_seconds)

    def carrier_away(self, away: bool) -> None:
        """The carrier's hook: Redis went away, or came back."""
        self.redis_away.set(1 if away else 0)

    def job_done(self, job_type: str, wait_seconds: float, duration_seconds: float) -> None:
        """A job's handler ran and its effect is committed."""
        kind = bounded(job_type, JOB_TYPES)
        self.job_wait.labels(kind).observe(max(0.0, wait_seconds))
        self.job_duration.labels(kind).observe(max(0.0, duration_seconds))

    def job_failed(self, job_type: str, status: JobStatus) -> None:
        """A job's handler failed and the job has this status now; PARKED shows in `jobs`."""
        kind = bounded(job_type, JOB_TYPES)
        if status is JobStatus.DEAD:
            self.jobs_dead.labels(kind).inc()
        elif status is not JobStatus.PARKED:
            self.job_retries.labels(kind).inc()

    def api_request(self, target: str, outcome: str) -> None:
        """A request to the outside ended; `outcome` is a send outcome, ok or error."""
        allowed = {*SendOutcome.__members__, "ok", "error", "timeout", "unknown"}
        self.api_requests.labels(self._target(target), bounded(outcome, allowed)).inc()

    def api_retry(self, target: str) -> None:
        """A request to the outside is made again."""
        self.api_retries.labels(self._target(target)).inc()

    def features_found(self, place: str) -> None:
        """The feature cache's hook: where an answer came from."""
        self.feature_reads.labels(bounded(place, FEATURES_FOUND)).inc()

    def model_called(self, rows: int, duration_seconds: float) -> None:
        """One batch was computed."""
        self.inference_batch_size.observe(rows)
        self.inference_duration.observe(duration_seconds)

    def score_refused(self, reason: str, rows: int) -> None:
        """So many rows have no score."""
        self.inference_refused.labels(bounded(reason, REFUSALS)).inc(rows)

    def loop_turned(self, lag_seconds: float) -> None:
        """The watchdog's hook."""
        self.event_loop_lag.set(lag_seconds)
        self.event_loop_delay.observe(lag_seconds)

    def set_trading_state(self, state: TradingState) -> None:
        """Exactly one state is 1."""
        for each in TradingState:
            self.trading_state.labels(each.value).set(1 if each is state else 0)

    def set_start_gate(self, gate: StartGate) -> None:
        """Exactly one position is 1."""
        for each in StartGate:
            self.start_gate.labels(each.value).set(1 if each is gate else 0)

    def set_jobs(self, counts: dict[str, int]) -> None:
        """Rows of the queue by status; a status that is absent has none."""
        for status in JobStatus:
            self.jobs.labels(status.value).set(counts.get(status.value, 0))

    # -- reading them --------------------------------------------------------------------------------------------------------

    def before_scrape(self, refresh: Callable[[], None]) -> None:
        """Call `refresh` before each exposition: for what is cheaper to read then than to follow."""
        self._before_scrape.append(refresh)

    def exposition(self) -> bytes:
        """All series in Prometheus' text form."""
        for refresh in self._before_scrape:
            refresh()
        return generate_latest(self.registry)

    def _preset(self) -> None:
        """Series that a rule or a board asks for exist before their first event."""
        for kind in JOB_TYPES:
            self.job_retries.labels(kind)
            self.jobs_dead.labels(kind)
        for outcome in SendOutcome:
            self.orders.labels(outcome.value)
        for reason in REFUSALS:
            self.inference_refused.labels(reason)
        for place in FEATURES_FOUND:
            self.feature_reads.labels(place)
        for ending in SignalOutcome:
            self.signals.labels(ending.value)
        self.training_success.set(float("nan"))  # nobody has trained
        self.set_jobs({})

    def _target(self, target: str) -> str:
        if target not in self._targets and len(self._targets) >= TARGETS_MAX:
            return OTHER
        self._targets.add(target)
        return target

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, text, labels, namespace="finagent", registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(name, text, labels, namespace="finagent", registry=self.registry)

    def _histogram(self, name: str, text: str, labels: tuple[str, ...] = (), buckets: tuple[float, ...] = _FAST) -> Histogram:
        return Histogram(name, text, labels, namespace="finagent", registry=self.registry, buckets=buckets)


def bounded(value: str, allowed: Iterable[str]) -> str:
    """The value where it is one of the allowed, else "other": a label never grows with what comes from outside."""
    return value if value in allowed else OTHER
