"""The examinations of `finagent doctor`, each of one thing, none of which changes anything."""

import ctypes
import importlib.util
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

from finagent.cli.broker_examination import broker_findings
from finagent.cli.finding import Finding, Verdict
from finagent.domain.errors import FinagentError, Unavailable
from finagent.settings import Settings, load_settings
from finagent.telemetry.redaction import without_password

DISK_BYTES_MIN = 500_000_000
SQLITE_FIXED = (3, 51, 3)  # before it, two connections that checkpoint could lose commits; ours are one writer and pure readers
CLOCK_ERROR_MICROSECONDS_MAX = 1_000_000
_TIME_ERROR = 5  # of ntp_gettime(3): the kernel's clock is not disciplined by anything


def examine(file: Path | None, overrides: list[str]) -> list[Finding]:
    """All findings; without valid settings only those that need none."""
    try:
        settings = load_settings(file, overrides)
    except FinagentError as error:
        return [Finding("settings", Verdict.MISSING, str(error), "mend the values named"), *_machine()]
    findings = [Finding("settings", Verdict.OK, f"mode {settings.orchestrate.mode}, source {settings.market_data.source}")]
    findings += [_guarded(examination, settings) for examination in (_folder, _disk, _database, _redis, _market, _model, _http)]
    return [*findings, *broker_findings(settings), *_machine(), *_optional()]


def _guarded(examination: Callable[[Settings], Finding], settings: Settings) -> Finding:
    try:
        return examination(settings)
    except (FinagentError, OSError, sqlite3.Error) as error:
        return Finding(examination.__name__.strip("_"), Verdict.MISSING, str(error))


def _folder(settings: Settings) -> Finding:
    folder = settings.storage.directory.absolute()
    existing = next(one for one in (folder, *folder.parents) if one.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        cure = "give this user the right to write there, or choose another with --set storage.directory=FOLDER"
        return Finding("folder", Verdict.MISSING, f"{existing} cannot be written", cure)
    return Finding("folder", Verdict.OK, str(folder) if folder.exists() else f"{folder} (made at the first start)")


def _disk(settings: Settings) -> Finding:
    folder = settings.storage.directory.absolute()
    usage = shutil.disk_usage(next(one for one in (folder, *folder.parents) if one.exists()))
    text = f"{usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f} GB"
    if usage.free < DISK_BYTES_MIN:
        return Finding("disk", Verdict.MISSING, text, f"free {DISK_BYTES_MIN / 1e6:.0f} MB or choose another storage.directory")
    return Finding("disk", Verdict.OK, text)


def _database(settings: Settings) -> Finding:
    if settings.storage.url is not None:
        return _server(settings.storage.url, settings)
    if not settings.database_path.is_file():
        return Finding("database", Verdict.OK, "none yet: made at the first start")
    from finagent.adapters.database.engine import open_read_only
    from finagent.adapters.database.move_mark import refuse_marked

    connection = open_read_only(settings.database_path)
    try:
        if (
            settings.storage.url is None
            and connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'store_move'").fetchall()
        ):
            refuse_marked(connection)
        answer = [row[0] for row in connection.execute("PRAGMA quick_check(5)")]
        broken = connection.execute("PRAGMA foreign_key_check").fetchmany(5)
    finally:
        connection.close()
    if answer != ["ok"] or broken:
        what = "; ".join(answer if answer != ["ok"] else [f"row without parent in {row[0]}" for row in broken])
        return Finding("database", Verdict.MISSING, f"{settings.database_path} is damaged: {what}", "restore a backup")
    size = settings.database_path.stat().st_size
    return Finding("database", Verdict.OK, f"{settings.database_path}, {size / 1e6:.1f} MB, whole")


def _server(url: str, settings: Settings) -> Finding:
    from finagent.adapters.database.move_mark import mark_objection
    from finagent.adapters.database.opening import open_reads

    reads = open_reads(url, settings.database.connect_seconds, settings.database.statement_seconds)
    try:
        if reads.rows("SELECT to_regclass('store_move')")[0][0] and (moved := mark_objection(reads)):
            return Finding("database", Verdict.MISSING, moved, "set storage.url to the store in use")
        (version, synced) = reads.rows("SELECT current_setting('server_version'), current_setting('fsync')")[0]
    finally:
        reads.close()
    text = f"PostgreSQL {version} at {without_password(url)}"
    if synced != "on":
        return Finding(
            "database", Verdict.MISSING, f"{text} with fsync off: a power cut loses what was acknowledged", "fsync = on"
        )
    return Finding("database", Verdict.OK, text)


def _redis(settings: Settings) -> Finding:
    redis = settings.queue.redis
    where = without_password(redis.url)
    if settings.queue.backend != "redis":
        return Finding("redis", Verdict.OPTIONAL, f"queue.backend is {settings.queue.backend}: none is needed")
    try:
        from finagent.adapters.job_queue.streams import server_version
    except ModuleNotFoundError:
        return Finding("redis", Verdict.MISSING, "its client is not installed", "pip install 'finagent[redis]'")
    try:
        version = server_version(redis.url, redis.call_seconds)
    except Unavailable as error:
        cure = "start it, or go on without: jobs are then claimed from the store alone (see the runbook redis-down)"
        return Finding("redis", Verdict.MISSING, str(error), cure)
    return Finding("redis", Verdict.OK, f"Redis {version} at {where}")


def _market(settings: Settings) -> Finding:
    from finagent.bootstrap import build_market

    market = build_market(settings)
    sessions = market.sessions()
    window = f"{len(sessions)} sessions {sessions[0].date} to {sessions[-1].date}" if sessions else "no session in the window"
    text = f"{window}, {len(market.symbols)} symbols: {market.notice}"
    if not sessions:
        return Finding("data", Verdict.MISSING, text, "choose another market_data.first_session and last_session")
    return Finding("data", Verdict.OK, text)


def _model(settings: Settings) -> Finding:
    from finagent.bootstrap import build_predictor

    version = build_predictor(settings, keep=False).model_version
    where = f"champion of {settings.models_path}" if settings.model.serve == "registry" else f"built in: {settings.model.serve}"
    return Finding("model", Verdict.OK, f"{version}, {where}")


def _http(settings: Settings) -> Finding:
    if not settings.http.enabled:
        return Finding("http", Verdict.OPTIONAL, "switched off: no health, no metrics", "http.enabled=true")
    from finagent.api.server import bind_port
    from finagent.cli.control_client import Presence, presence
    from finagent.store_access import CONTROL_SOCKET

    where = f"{settings.http.host}:{settings.http.port}"
    if presence(settings.storage.directory / CONTROL_SOCKET, 1.0) is Presence.RUNNING:
        return Finding("http", Verdict.OK, f"{where}, served by the running agent")
    bind_port(settings.http.host, settings.http.port).close()
    return Finding("http", Verdict.OK, f"{where} is free")


def _machine() -> list[Finding]:
    return [_python(), _sqlite(), _clock(), _calendar()]


def _python() -> Finding:
    return Finding("python", Verdict.OK, ".".join(str(part) for part in sys.version_info[:3]))


def _sqlite() -> Finding:
    text = f"SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info < SQLITE_FIXED:
        fixed = ".".join(str(part) for part in SQLITE_FIXED)
        return Finding("sqlite", Verdict.OK, f"{text} (older than {fixed}; safe here: one writer, readers never checkpoint)")
    return Finding("sqlite", Verdict.OK, text)


class _NtpTime(ctypes.Structure):
    """`struct ntptimeval` of sys/timex.h."""

    _fields_ = (
        ("seconds", ctypes.c_long),
        ("microseconds", ctypes.c_long),
        ("error_max", ctypes.c_long),
        ("error_estimated", ctypes.c_long),
        ("tai", ctypes.c_long),
        ("reserved", ctypes.c_long * 4),
    )


def _clock() -> Finding:
    """What the kernel itself knows of its clock's error; no server is asked."""
    now = datetime.now(UTC)
    asked = _NtpTime()
    try:
        state = ctypes.CDLL(None).ntp_gettime(ctypes.byref(asked))
    except (AttributeError, OSError):
        return Finding("clock", Verdict.OPTIONAL, f"{now:%Y-%m-%d %H:%M:%S}Z; this system does not tell its clock's error")
    if state in (_TIME_ERROR, -1) or asked.error_max > CLOCK_ERROR_MICROSECONDS_MAX:
        cure = "run a time service (chrony, systemd-timesyncd) before trading on wall time; replays do not need it"
        return Finding("clock", Verdict.OPTIONAL, f"{now:%Y-%m-%d %H:%M:%S}Z, not synchronised", cure)
    return Finding("clock", Verdict.OK, f"{now:%Y-%m-%d %H:%M:%S}Z, at most {asked.error_max / 1000:.0f} ms off")


def _calendar() -> Finding:
    from finagent.adapters.calendar import NewYorkCalendar

    today: date = datetime.now(UTC).date()
    try:
        following = NewYorkCalendar().next_session(today)
    except FinagentError as error:
        return Finding(
            "calendar", Verdict.OPTIONAL, str(error), "upgrade finagent: its table of closures ends; replays do not need it"
        )
    return Finding("calendar", Verdict.OK, f"next session {following.date}, {following.minutes} minutes")


def _optional() -> Iterator[Finding]:
    strace = shutil.which("strace")
    if strace:
        yield Finding("strace", Verdict.OK, strace)
    else:
        yield Finding(
            "strace", Verdict.OPTIONAL, "not installed", "apt install strace: `finagent drill power-loss` records writes"
        )
    torch = importlib.util.find_spec("torch") is not None
    yield Finding(
        "learned models", Verdict.OPTIONAL, "torch is installed" if torch else "torch is not installed; nothing here needs it yet"
    )
    gpu = Path("/dev/nvidia0").exists()
    yield Finding("gpu", Verdict.OK if gpu else Verdict.OPTIONAL, "NVIDIA device found" if gpu else "none: inference on the CPU")
