"""Every event is one line that parses, carries its trace and holds no secret."""

import base64
import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from finagent.domain.errors import BadInput
from finagent.telemetry.logging import CurrentStderr, LoggingPolicy, configure
from finagent.telemetry.redaction import MASK, Redactor
from finagent.telemetry.trace_context import bound, current_trace_id

SECRET = "s3cr3t/val+ue=="


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging as it was before the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Any:
    """Configure JSON logging with a registered secret; calling it gives the lines written since."""
    configure(LoggingPolicy("INFO", "json"), [SECRET])

    def read() -> list[dict[str, Any]]:
        captured = capsys.readouterr()
        assert captured.out == ""
        return [json.loads(line) for line in captured.err.splitlines()]

    return read


def test_a_line_has_its_fields_in_front(lines: Any) -> None:
    """timestamp, level, event, logger come first, then the ids and the rest."""
    with bound(trace_id="t1", decision_id="d1", symbol="AAPL"):
        structlog.get_logger("finagent.test").info("order_sent", quantity=3)

    (line,) = lines()
    assert list(line)[:4] == ["timestamp", "level", "event", "logger"]
    assert line["event"] == "order_sent"
    assert (line["trace_id"], line["decision_id"], line["symbol"], line["quantity"]) == ("t1", "d1", "AAPL", 3)
    assert "run_id" not in line


def test_the_trace_ends_with_its_block() -> None:
    """An inner block adds to the outer one and leaves it as it was."""
    with bound(trace_id="outer"):
        with bound(trace_id="inner"):
            assert current_trace_id() == "inner"
        assert current_trace_id() == "outer"
    assert current_trace_id() == ""


def test_libraries_speak_through_the_same_handler(lines: Any) -> None:
    """A line of uvicorn is JSON too; what they tell of every request is not."""
    logging.getLogger("uvicorn.error").warning("port %d", 8321)
    logging.getLogger("httpx").info("HTTP Request: POST /control/advance")

    (line,) = lines()
    assert (line["event"], line["logger"], line["level"]) == ("port 8321", "uvicorn.error", "warning")


def test_an_exception_is_one_line_without_local_variables(lines: Any) -> None:
    """The traceback is there, the values of the function's variables are not."""

    def fail(unregistered_local: str) -> None:
        assert unregistered_local
        raise ValueError("boom " + SECRET)

    try:
        fail("".join(("only-a-", "local-value")))
    except ValueError:
        structlog.get_logger("x").exception("job_failed")

    (line,) = lines()
    assert "ValueError: boom" in line["exception"]
    assert "test_logging.py" in line["exception"]
    assert SECRET not in json.dumps(line)
    assert "only-a-local-value" not in json.dumps(line)


@pytest.mark.parametrize("name", ["password", "api_key", "APCA-API-SECRET-KEY", "Authorization", "session_token"])
def test_secret_like_names_are_masked(lines: Any, name: str) -> None:
    """The value of such a field is never written, at any depth."""
    structlog.get_logger("x").info("called", **{name: "hunter22"}, request={"headers": [{name: "hunter22"}]})

    (line,) = lines()
    assert "hunter22" not in json.dumps(line)
    assert line[name] == MASK


@pytest.mark.parametrize("name", ["dedup_key", "key", "symbol"])
def test_ordinary_names_are_not(lines: Any, name: str) -> None:
    """A job's key is no secret."""
    structlog.get_logger("x").info("called", **{name: "scan:AAPL"})

    assert lines()[0][name] == "scan:AAPL"


@pytest.mark.parametrize(
    "form", [SECRET, base64.b64encode(SECRET.encode()).decode(), "s3cr3t%2Fval%2Bue%3D%3D", f"https://u:{SECRET}@host/path"]
)
def test_a_registered_secret_is_masked_in_every_form(lines: Any, form: str) -> None:
    """Plain, base64, URL-encoded, in a text, in an object's text, in a library's line."""

    class Holder:
        def __repr__(self) -> str:
            return f"Holder({form})"

    structlog.get_logger("x").warning(f"failed at {form}", url=form, held=Holder(), nested=[{"a": (form,)}])
    logging.getLogger("uvicorn.error").warning("got %s", form)

    written = json.dumps(lines())
    assert form not in written
    assert SECRET not in written


def test_below_the_level_nothing_is_written(lines: Any) -> None:
    """INFO means INFO."""
    structlog.get_logger("x").debug("noise")

    assert lines() == []


@given(st.text(), st.text())
def test_any_text_from_outside_is_one_line(text: str, name: str) -> None:
    """Line breaks, escapes, U+2028 and lone surrogates stay inside their field."""
    redactor = Redactor()
    event = redactor(None, "info", {"event": "news_read", "headline": text, f"x{name}": text})
    line = json.dumps(event, ensure_ascii=True)

    assert len(line.splitlines()) == 1
    assert json.loads(line)["event"] == "news_read"


def test_a_huge_text_is_cut(lines: Any) -> None:
    """A megabyte from outside does not become a megabyte of log."""
    structlog.get_logger("x").info("read", body="x" * 1_000_000)

    assert len(lines()[0]["body"]) < 9_000


def test_on_a_terminal_control_characters_do_not_act(capsys: pytest.CaptureFixture[str]) -> None:
    """An escape sequence in a value does not reach the terminal."""
    configure(LoggingPolicy("INFO", "text"))
    structlog.get_logger("x").info("news_read", headline="evil\x1b[2Jred\nfake line")

    written = capsys.readouterr().err
    assert "\x1b[2J" not in written
    assert len(written.splitlines()) == 1


@pytest.mark.parametrize("policy", [LoggingPolicy("LOUD", "json"), LoggingPolicy("INFO", "xml")])
def test_a_wrong_policy_is_bad_input(policy: LoggingPolicy) -> None:
    """The message names what may stand there."""
    with pytest.raises(BadInput, match="levels DEBUG to CRITICAL"):
        configure(policy)


def test_lines_that_cannot_be_written_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """F-11: the log is on a full disk."""
    configure(LoggingPolicy("INFO", "json"))
    before = CurrentStderr.lost
    with Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        logging.getLogger("somewhere").info("said")
        logging.getLogger("somewhere").info("said again")
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()

    assert CurrentStderr.lost == before + 2
