"""The agent at work: a live picture on a terminal, plain lines in a pipe."""

import sys
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from finagent.cli.narration import Happening, Narrator, exchange_time
from finagent.cli.result_table import TONES, recovery_text
from finagent.domain.effect import Effect
from finagent.domain.portfolio import AccountSnapshot
from finagent.domain.sessions import Session
from finagent.services.progress import RecoveryInfo, ReplaySummary, StartInfo

FRAME_SECONDS = 0.1
EVENTS_SHOWN = 10
CANDIDATES_SHOWN = 12
WIDTH_WITH_FACTS = 100


class PlainLines:
    """A ProgressObserver that writes one line an event, for pipes and files."""

    def __init__(self, console: Console, narrator: Narrator) -> None:
        self._console, self._narrator = console, narrator

    def started(self, info: StartInfo) -> None:
        if info.mode == "replay":
            window = f"{info.sessions} sessions {info.first_session} to {info.last_session}"
            self._line(f"finagent {info.mode}: {window}, {info.symbols} symbols, seed {info.seed}")
        else:
            self._line(f"finagent {info.mode}: next session {info.first_session}, {info.symbols} symbols, {info.ledger_id}")
        self._line(f"data: {info.notice}")

    def recovered(self, info: RecoveryInfo) -> None:
        at = f", going on at {exchange_time(info.market_clock)}" if info.market_clock and not info.finished else ""
        self._line(recovery_text(info) + at)

    def instant(self, at: datetime, session: Session, done: int, total: int) -> None:
        self._narrator.time_is(at)

    def committed(self, effect: Effect) -> None:
        for one in self._narrator.tell(effect):
            self._line(f"{exchange_time(one.at)}  {one.kind:<10} {one.symbol:<6} {one.text}".rstrip())

    def finished(self, summary: ReplaySummary) -> None:
        self._line("")

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


class LiveView:
    """A ProgressObserver that keeps one picture up to date: progress, market time, candidates and their fate, the last events."""

    def __init__(self, console: Console, narrator: Narrator, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._console, self._narrator, self._monotonic = console, narrator, monotonic
        self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stderr=sys.stderr.isatty())
        self._drawn_at = 0.0
        self._info: StartInfo | None = None
        self._now: datetime | None = None
        self._done, self._total = 0, 1
        self._equity = Decimal(0)
        self._events: deque[Happening] = deque(maxlen=EVENTS_SHOWN)
        self._fates: dict[str, tuple[Happening, Happening | None]] = {}
        self._counts: dict[str, int] = {}

    def __enter__(self) -> "LiveView":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def started(self, info: StartInfo) -> None:
        self._info, self._equity, self._total = info, info.start_equity, max(1, info.instants)
        self._draw(at_once=True)

    def recovered(self, info: RecoveryInfo) -> None:
        at = f", going on at {exchange_time(info.market_clock)}" if info.market_clock and not info.finished else ""
        self._live.console.print(Text(recovery_text(info) + at, style="bold yellow"))

    def instant(self, at: datetime, session: Session, done: int, total: int) -> None:
        self._now, self._done, self._total = at, done, max(1, total)
        self._narrator.time_is(at)
        self._draw()

    def committed(self, effect: Effect) -> None:
        for one in self._narrator.tell(effect):
            self._events.append(one)
            self._counts[one.kind] = self._counts.get(one.kind, 0) + 1
            if one.kind == "candidate":
                self._fates[one.decision_id] = (one, None)
                while len(self._fates) > CANDIDATES_SHOWN:
                    self._fates.pop(next(iter(self._fates)))
            elif one.decision_id in self._fates:
                self._fates[one.decision_id] = (self._fates[one.decision_id][0], one)
        for record in effect.records:
            if isinstance(record, AccountSnapshot):
                self._equity = record.equity
        self._draw()

    def finished(self, summary: ReplaySummary) -> None:
        self._live.stop()

    def _draw(self, *, at_once: bool = False) -> None:
        now = self._monotonic()
        if at_once or now - self._drawn_at >= FRAME_SECONDS:
            self._drawn_at = now
            self._live.update(self.picture(), refresh=True)

    def picture(self) -> Panel:
        """The present picture."""
        title = f"finagent {self._info.mode}" if self._info else "finagent"
        notice = self._info.notice if self._info else ""
        body = Group(self._head(), Text(), self._candidates(), Text(), self._last_events())
        return Panel(body, title=title, subtitle=notice, border_style="dim", padding=(0, 1))

    def _head(self) -> Table:
        start = self._info.start_equity if self._info else self._equity
        pnl = self._equity - start
        line = Table.grid(expand=True, padding=(0, 2))
        for _ in range(3):
            line.add_column(no_wrap=True)
        line.add_column(ratio=1)
        line.add_column(justify="right", no_wrap=True)
        line.add_row(
            Text(exchange_time(self._now) if self._now else "starting", style="bold"),
            Text.assemble(f"equity {self._equity:,.2f} ", (f"{pnl:+,.2f}", "green" if pnl >= 0 else "red")),
            f"{self._counts.get('candidate', 0)} candidates, {self._counts.get('fill', 0)} fills",
            ProgressBar(total=self._total, completed=self._done),
            f"{self._done / self._total:.0%}",
        )
        return line

    def _candidates(self) -> Table:
        table = Table(box=None, pad_edge=False, expand=True, header_style="dim", show_header=True)
        table.add_column("found", no_wrap=True)
        table.add_column("candidate", no_wrap=True)
        roomy = self._console.width >= WIDTH_WITH_FACTS
        if roomy:
            table.add_column("facts", no_wrap=True, style="dim")
        table.add_column("what became of it", ratio=1, no_wrap=True, overflow="ellipsis")
        for found, fate in self._fates.values():
            told = Text(_fate(fate), style=TONES[fate.tone]) if fate else Text("in the pipeline", style="dim")
            facts = [found.text] if roomy else []
            table.add_row(exchange_time(found.at), Text(found.symbol, style="bold"), *facts, told)
        return table

    def _last_events(self) -> Table:
        table = Table.grid(expand=True, padding=(0, 2))
        for _ in range(3):
            table.add_column(no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for one in self._events:
            table.add_row(Text(exchange_time(one.at), style="dim"), Text(one.kind, style=TONES[one.tone]), one.symbol, one.text)
        return table


def _fate(latest: Happening) -> str:
    """A refusal or an ending speaks for itself; the rest needs its kind."""
    return latest.text if latest.kind in ("refused", "ended") else f"{latest.kind}: {latest.text}"
