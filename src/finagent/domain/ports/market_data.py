"""Where bars come from."""

from datetime import date
from typing import Protocol

from finagent.domain.bars import DailyHistory, PriorFacts, SessionBars
from finagent.domain.sessions import Session


class MarketDataPort(Protocol):
    """A source of one-minute bars for a fixed list of symbols over a window of sessions.

    Pure in its arguments: the same session gives the same numbers in any order of calls and in any process. Calls may take
    long (files, generation); implementations run them off the event loop. Transient on a time-out, BadInput for data that a
    person must mend (naming file, symbol, column, count and first time).
    """

    @property
    def source_id(self) -> str:
        """Names source, window, seed and content hash: equal ids give equal bars."""
        ...

    @property
    def notice(self) -> str:
        """What every screen and report says of this data, such as "real daily bars, simulated intraday path"."""
        ...

    @property
    def symbols(self) -> tuple[str, ...]:
        """The universe in its canonical order; the columns of every array."""
        ...

    def sessions(self) -> tuple[Session, ...]:
        """The sessions of the window, in order."""
        ...

    async def prior_facts(self, session: Session, minutes: tuple[int, ...]) -> PriorFacts:
        """What was known before the open; cumulative volume means for the given minutes after the open."""
        ...

    async def daily_history(self, session: Session, first: date) -> DailyHistory:
        """The daily bars from `first` to the session before, as known at its open; fewer where the source does not reach so far
        back."""
        ...

    async def session_bars(self, session: Session) -> SessionBars:
        """All minute bars of the session, bad ones marked."""
        ...
