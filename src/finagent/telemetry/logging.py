"""One JSON object a line on stderr, coloured text on a terminal; uvicorn and every other library speak through it too."""

import json
import logging
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from finagent.domain.errors import BadInput
from finagent.telemetry.redaction import Redactor

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class LoggingPolicy:
    """`level` DEBUG to CRITICAL; `format` json, text, or auto: text where stderr is a terminal."""

    level: str
    format: str


class CurrentStderr(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at the time of the line, so that a live view may catch lines and print them above itself.

    `lost`: lines of this process that could not be written, as when the disk below them is full. Nothing else stops for them.
    """

    lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line."""
        self.stream = sys.stderr
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Count the line."""
        CurrentStderr.lost += 1


def configure(policy: LoggingPolicy, secrets: Iterable[str] = ()) -> Redactor:
    """Send every line of this process through one handler. The redactor returned takes secrets that become known later."""
    level = logging.getLevelNamesMapping().get(policy.level.upper())
    if level is None or policy.format not in ("auto", "json", "text"):
        raise BadInput(
            f"logging: level {policy.level!r}, format {policy.format!r}; levels DEBUG to CRITICAL, format auto, json, text"
        )
    redactor = Redactor(secrets)
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,  # the plain traceback: no local variables
        redactor,
    ]
    as_text = policy.format == "text" or (policy.format == "auto" and sys.stderr.isatty())
    handler = CurrentStderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *(_text() if as_text else [_json_line])],
        )
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    _through_root(level)
    return redactor


def _through_root(level: int) -> None:
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "alembic", "httpx"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        # A line for each scrape, request and migration looked at would bury what matters.
        library.setLevel(max(level, logging.WARNING))
    for name in ("websockets", "urllib3"):
        logging.getLogger(name).setLevel(max(level, logging.INFO))  # below, frames: a secret may be cut in two


def _json_line(_logger: Any, _method: str, event: EventDict) -> str:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event", "logger") if name in event}
    return json.dumps({**first, **event}, ensure_ascii=True, default=str)


def _text() -> list[Processor]:
    return [
        _printable,
        structlog.dev.ConsoleRenderer(colors=True, exception_formatter=structlog.dev.plain_traceback, pad_event_to=24),
    ]


def _printable(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Control characters from outside cannot move the cursor or start a line of their own."""
    return {
        name: _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value if name == "exception" else value.replace("\n", "\\n"))
        if isinstance(value, str)
        else value
        for name, value in event.items()
    }
