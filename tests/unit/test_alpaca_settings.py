"""Keys come from the environment or from files, are named when they are missing, and are shown nowhere."""

import json
from pathlib import Path

import pytest

from finagent.adapters.broker.alpaca.policy import Keys
from finagent.domain.errors import BadInput
from finagent.policies import check
from finagent.settings import alpaca_keys, load_settings, secrets_in_use

ALPACA = ("broker.kind=alpaca", "broker.account_id=PA1")


def test_keys_are_read_from_the_environment_then_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(None, (*ALPACA, f"alpaca.secrets_directory={tmp_path}"))
    monkeypatch.delenv("APCA_API_KEY_ID", raising=False)
    monkeypatch.delenv("APCA_API_SECRET_KEY", raising=False)
    with pytest.raises(BadInput, match="APCA_API_KEY_ID and APCA_API_SECRET_KEY"):
        alpaca_keys(settings)
    (tmp_path / "apca_api_key_id").write_text("PKFILE\n")
    (tmp_path / "apca_api_secret_key").write_text("planted-in-a-file\n")
    assert alpaca_keys(settings) == ("PKFILE", "planted-in-a-file")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "planted-in-the-environment")
    assert alpaca_keys(settings) == ("PKFILE", "planted-in-the-environment")
    assert secrets_in_use(settings) == alpaca_keys(settings)
    assert secrets_in_use(load_settings(None)) == ()
    shown = json.dumps(settings.masked()) + repr(settings) + repr(Keys(*alpaca_keys(settings)))
    assert "planted" not in shown
    assert "PKFILE" not in shown


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("broker.account_id=SIM-1", "broker.account_id"),
        ("alpaca.url=https://api.alpaca.markets", "alpaca.url"),
        ("alpaca.settle_seconds=900", "alpaca.settle_seconds"),
        ("alpaca.reserved_requests=160", "alpaca.reserved_requests"),
    ],
)
def test_terms_that_cannot_hold_are_refused_by_name(override: str, named: str) -> None:
    check(load_settings(None, ALPACA))
    with pytest.raises(BadInput, match=named):
        check(load_settings(None, (*ALPACA, override)))


def test_the_broker_in_use_is_no_part_of_what_decides() -> None:
    other = load_settings(None, ("broker.kind=alpaca", "alpaca.threads=9"))
    assert other.settings_hash == load_settings(None).settings_hash
