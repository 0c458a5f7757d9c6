"""A person who comes by at fixed market times, in the reference as well: so what only people do is killed too."""

from datetime import datetime, timedelta

from finagent.bootstrap import Application
from finagent.domain.trading_state import TradingState

BY = "drill"
HALTS_AFTER = timedelta(minutes=150)  # between the last scan and the flattening: exits go on, no entry is refused
COPIES_AFTER = timedelta(minutes=165)
ARMS_AFTER = timedelta(minutes=180)
COPY = "drill-backup.db"


async def visit(application: Application, at: datetime) -> None:
    """Halt, take a backup and, half an hour after the halt, arm. In an instant that is repeated the state says what was done, and
    a copy that was begun is of no use."""
    since_open = at - application.feed.session.opens_at
    if since_open == COPIES_AFTER:
        copy = application.parts.settings.storage.directory / COPY
        copy.unlink(missing_ok=True)
        await application.copy_store(copy)
    state = application.kill_switch.state()
    if since_open == HALTS_AFTER and state.at < at:
        await application.kill_switch.halt("a person looks at something", BY)
    if since_open >= ARMS_AFTER and (state.state, state.by) == (TradingState.HALTED, BY):
        await application.kill_switch.arm("nothing was wrong", BY)
