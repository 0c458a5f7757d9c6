"""What an answer or the lack of one means: one table, from HTTP status and Alpaca's code to what the caller does about it.

Alpaca promises the status and the code, not the words (docs.alpaca.markets); 40010001 is a used id and a dozen other things, so
only words that are known to be a plain no make it one.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import requests
from alpaca.common.exceptions import APIError
from urllib3.exceptions import MaxRetryError, NewConnectionError

from finagent.domain.errors import Permanent, Transient

OK = range(200, 300)
TOO_MANY = 429
UNAUTHORISED = (401, 403)
# An explicit no, if the body is Alpaca's own. Every other status (408, 409, 425, 3xx, 5xx, ...) says nothing of the request.
REFUSALS = frozenset({400, 401, 403, 404, 405, 422})
AMBIGUOUS_CODE = "40010001"
PLAIN_REFUSAL = re.compile(r"\b(orders? (must|only|require)|is allowed for|could not find|not (active|tradable)|is required)\b")
USED_ID = re.compile(r"client_order_id|unique|duplicate")
MESSAGE_LENGTH_MAX = 300


class NotSent(Transient):
    """The request never left: nothing can have been applied."""


class BreakerOpen(NotSent):
    """The broker has not answered for a while; only a probe or a cancel may go."""


class Unanswered(Transient):
    """No usable answer: the request may have been applied. `status` 0: none at all."""

    def __init__(self, message: str, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Throttled(Unanswered):
    """429: the broker wants fewer requests. It says that nothing was applied; we look rather than believe it."""


class Unreadable(ValueError):
    """An answer without something that we need; the message names it."""


class Refused(Permanent):
    """The broker's explicit no."""

    def __init__(self, status: int, code: str, message: str) -> None:
        cure = ": check APCA_API_KEY_ID and APCA_API_SECRET_KEY" if status in UNAUTHORISED and not code else ""
        super().__init__(f"broker: {status} {code} {message}{cure}")
        self.status, self.code, self.message = status, code, message


def judge(error: Exception, clean: Callable[[str], str]) -> Transient | Permanent:
    """What an exception out of the SDK says of its request; `clean` takes our keys out of what the broker says."""
    if isinstance(error, Transient | Permanent):
        return error
    if isinstance(error, APIError):
        return _judge_answer(int(error.status_code or 0), clean(str(error)))
    if _never_connected(error):
        return NotSent(f"broker: no connection ({_words(error)})")
    if isinstance(error, ValueError):  # a body that is no JSON; requests' own JSONDecodeError is one too
        return Unanswered(f"broker: an answer that cannot be read ({_words(error)})")
    return Unanswered(f"broker: no answer ({_words(error)})")


def _judge_answer(status: int, text: str) -> Transient | Permanent:
    body = _body(text)
    code, message = str(body.get("code", "")), str(body.get("message", ""))[:MESSAGE_LENGTH_MAX]
    if status == TOO_MANY:
        return Throttled(f"broker: 429 {message or 'too many requests'}", status, code)
    if status not in REFUSALS or not message:
        return Unanswered(f"broker: {status} {message or 'an answer that is not its own'}", status, code)
    words = message.lower()
    if USED_ID.search(words) or (code == AMBIGUOUS_CODE and not PLAIN_REFUSAL.search(words)):
        return Unanswered(message, status, code)
    return Refused(status, code, message)


def _body(text: str) -> dict[str, Any]:
    """The JSON object in an answer; empty for HTML and anything else. The SDK's own `code` and `message` raise there."""
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _never_connected(error: Exception) -> bool:
    """No connection was made, so no byte of the request can have left."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    cause = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)


def _words(error: Exception) -> str:
    """The kind of an error, without its text: that may hold a URL or a header."""
    return type(error).__name__
