"""No secret in any line: by the name of a field and by the value itself, in each form it takes on a wire."""

import base64
import json
import re
from collections.abc import Iterable, MutableMapping
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"
TEXT_LENGTH_MAX = 8_000
_SECRET_NAME = re.compile(r"passw|secret|token|api_?key|authori[sz]ation|credential|private_key|cookie|dsn$", re.IGNORECASE)
_SHORTEST_SECRET = 6  # a shorter value would mask ordinary words


class Redactor:
    """A log processor: masks values of secret-like names and every registered secret, cuts texts, keeps one event on one line."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: tuple[str, ...] = ()
        for secret in secrets:
            self.register(secret)

    def register(self, secret: str) -> None:
        """From now on neither the secret nor its base64, URL or JSON form is written."""
        if len(secret) < _SHORTEST_SECRET:
            return
        encoded = base64.b64encode(secret.encode()).decode()
        forms = {secret, encoded, encoded.rstrip("="), quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1]}
        forms |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
        forms |= {repr(form)[1:-1] for form in forms}
        self._forms = tuple(sorted({*self._forms, *forms}, key=len, reverse=True))

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """The event with nothing secret in it."""
        return {
            str(name): MASK if _SECRET_NAME.search(str(name)) and value else self.clean(value) for name, value in event.items()
        }

    def clean(self, value: Any) -> Any:
        """A value as it may be written: what is not a plain scalar or container is written as its text."""
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, dict):
            return {
                self.text(str(name)): MASK if _SECRET_NAME.search(str(name)) and item else self.clean(item)
                for name, item in value.items()
            }
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.clean(item) for item in value]
        return self.text(str(value))

    def text(self, text: str) -> str:
        """The text without secrets, lone surrogates or more than `TEXT_LENGTH_MAX` characters."""
        for form in self._forms:
            text = text.replace(form, MASK)
        if len(text) > TEXT_LENGTH_MAX:
            text = f"{text[:TEXT_LENGTH_MAX]}... ({len(text)} characters)"
        return text.encode("utf-8", "replace").decode()


def without_password(url: str) -> str:
    """An address for people to see."""
    return re.sub(r"(//[^/@:]*):[^@/]*@", rf"\1:{MASK}@", url)
