"""Stored jobs of every type, version and shape, as real replays leave them; `python -m tests.golden.job_payloads` adds new ones.

A file holds the rows of one type and version, one a shape (names and kinds of the values). What an earlier release has written is
never written again: no later code can make it.
"""

import asyncio
import json
import sqlite3
import tempfile
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from finagent.adapters.calendar import NewYorkCalendar
from finagent.bootstrap import build_application
from finagent.domain.effect import Effect
from finagent.domain.orders import OrderState
from finagent.domain.portfolio import Position
from finagent.domain.ports.order_execution import TradeUpdate
from finagent.services.execution.trade_updates import update_job
from finagent.services.scheduling.cron import CronEntry
from finagent.services.scheduling.scheduled_training import training_jobs
from finagent.settings import load_settings

EARLIER = datetime(2008, 10, 6, tzinfo=UTC)
FOLDER = Path(__file__).parent / "job_payloads"
Row = dict[str, Any]
Shape = tuple[tuple[str, str], ...]
_DAYS = ("http.enabled=false", "market_data.first_session=2008-10-07", "plan.target_multiple=50")
_FAULTS = ("broker.partial_fill_rate=0.9", "broker.faults.dropped=0.3", "broker.faults.cancel_dropped=1")
_UNCLEAR = ("broker.faults.reply_lost=0.15", "broker.faults.late=0.1", "broker.faults.look_up_withheld=0.2")
TOLD = update_job(TradeUpdate("golden", "new", "b-1", "c-1", OrderState.ACCEPTED), datetime(2008, 10, 7, 15, tzinfo=UTC), 15)
(TRAINS,) = training_jobs([CronEntry("gap", "0 11 * * *")], NewYorkCalendar().session_at_or_after(EARLIER + timedelta(days=1)))
REPLAYS = (
    (("replay.seed=21", "market_data.last_session=2008-10-08", *_FAULTS, *_UNCLEAR), Effect()),
    (("replay.seed=21", "market_data.last_session=2008-10-07", *_FAULTS), Effect()),  # closes out
    (("market_data.last_session=2008-10-07",), Effect(next=(TOLD, TRAINS))),  # of wall time, which a replay has none of
    (("market_data.last_session=2008-10-07",), Effect((Position("IBM", 1, Decimal(-100), Decimal(0), EARLIER),))),  # left over
)


def shape(payload: Row) -> Shape:
    """The names in a payload and the kind of value of each: what a handler relies on."""
    return tuple(sorted((name, type(value).__name__) for name, value in payload.items()))


def replayed() -> list[Row]:
    """One row of every type, version and shape that the pipeline publishes today."""
    rows: dict[tuple[str, int, Shape], Row] = {}
    for settings, before in REPLAYS:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(_replay(Path(folder), settings, before))
            for row in _stored(Path(folder) / "finagent.db"):
                rows.setdefault((row["type"], row["payload_version"], shape(json.loads(row["payload"]))), row)
    return [rows[key] for key in sorted(rows)]


def golden() -> list[Row]:
    """Every row that any release has written."""
    return [row for file in sorted(FOLDER.glob("*.json")) for row in json.loads(file.read_text())]


async def _replay(folder: Path, settings: Iterable[str], before: Effect) -> None:
    overrides = (f"storage.directory={folder}", *_DAYS, *settings)
    async with build_application(load_settings(overrides=overrides)) as application:
        assert await application.queue.submit(before) == []
        assert await application.run()


def _stored(path: Path) -> list[Row]:
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute("SELECT * FROM job_queue ORDER BY id")]


def add_new() -> list[Path]:
    """Write the files of the types and versions that have none yet."""
    written = []
    rows = replayed()
    for name in sorted({_file(row) for row in rows} - {file.name for file in FOLDER.glob("*.json")}):
        (FOLDER / name).write_text(json.dumps([row for row in rows if _file(row) == name], indent=1) + "\n")
        written.append(FOLDER / name)
    return written


def _file(row: Row) -> str:
    return f"{row['type']}.v{row['payload_version']}.json"


if __name__ == "__main__":
    for new in add_new():
        print(new)
