"""The sessions of a daily panel as the scan of the past reads them."""

from collections.abc import Iterator
from datetime import date

import numpy as np

from finagent.adapters.market_data.daily_panel import HistoryPolicy, KnownPanels
from finagent.domain.bars import Floats
from finagent.domain.errors import BadInput
from finagent.domain.sessions import Session
from finagent.services.past_scan import MINUTE, PastSession


def past_sessions(panels: KnownPanels, policy: HistoryPolicy, first: date, last: date) -> Iterator[PastSession]:
    """The sessions from `first` to `last` as they were told first, with what was known before each open; volume means are of
    whole days."""
    panel = panels.first
    window = [session for session in panel.sessions if first <= session.date <= last]
    if not window:
        raise BadInput(
            f"no session from {first} to {last}: the daily bars cover {panel.sessions[0].date} to {panel.sessions[-1].date}"
        )

    def whole_days(session: Session, minutes: tuple[int, ...]) -> Floats:
        return np.ones((len(minutes), len(panel.symbols)))

    for session in window:
        day = panel.day_of(session)
        yield PastSession(
            prior=panels.at(session.opens_at).prior_facts(session, (MINUTE,), policy, whole_days),
            open=panel.open[day],
            volume=panel.volume[day],
            split=panels.at(session.opens_at).split[day],
            refused=dict(panel.excluded[day]),
        )
