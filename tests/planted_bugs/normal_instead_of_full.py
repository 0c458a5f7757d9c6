"""Commits are not synced: SQLite does that at its next checkpoint, which a kill does not notice and a power cut does."""

from contextlib import AbstractAsyncContextManager
from typing import Any

from sqlalchemy import Connection, Engine, event

from finagent.bootstrap import Application, build_application
from finagent.settings import Settings


def application(settings: Settings, **overrides: Any) -> AbstractAsyncContextManager[Application]:
    if not event.contains(Engine, "engine_connect", sync_less):
        event.listen(Engine, "engine_connect", sync_less)
    return build_application(settings, **overrides)


def sync_less(connection: Connection) -> None:
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.execute("PRAGMA synchronous=NORMAL")
