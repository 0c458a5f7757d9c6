"""Asking the resident agent over its Unix socket."""

import http.client
import json
import os
import socket
from enum import Enum
from pathlib import Path
from typing import Any

from finagent.domain.errors import BadInput


class NoAgent(Exception):
    """Nobody listens on the socket."""


class NoAnswer(Exception):
    """An agent holds the socket but did not answer in time."""


class Presence(Enum):
    """What is known of the agent of a folder."""

    RUNNING = "RUNNING"
    NOT_ANSWERING = "NOT_ANSWERING"
    ABSENT = "ABSENT"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__("agent", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket file."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        address = str(self._path)
        self.sock.connect(address if len(address.encode()) < 108 else os.path.relpath(address))


def ask(path: Path, method: str, route: str, body: dict[str, Any] | None, timeout_seconds: float) -> dict[str, Any]:
    """The agent's answer; raises NoAgent where nobody listens, BadInput with the agent's words where it says that what was asked
    is wrong, NoAnswer where it does not answer in time or not with success."""
    connection = _UnixConnection(path, timeout_seconds)
    try:
        connection.request(method, route, json.dumps(body) if body else None, {"content-type": "application/json"})
        response = connection.getresponse()
        text = response.read()
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NoAgent(str(path)) from error
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if response.status == http.client.BAD_REQUEST:
        raise BadInput(json.loads(text)["detail"])
    if response.status != http.client.OK:
        raise NoAnswer(f"the agent answered {response.status}: {text.decode(errors='replace')[:300]}")
    answer: dict[str, Any] = json.loads(text)
    return answer


def presence(path: Path, timeout_seconds: float) -> Presence:
    """Whether an agent is there and answers."""
    try:
        ask(path, "GET", "/control/status", None, timeout_seconds)
    except NoAgent:
        return Presence.ABSENT
    except NoAnswer:
        return Presence.NOT_ANSWERING
    return Presence.RUNNING
