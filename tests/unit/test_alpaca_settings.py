"""Keys come from the environment or from files, are named when they are missing, and are shown nowhere."""

import json
from pathlib import Path

import pytest

from finagent.adapters.broker.alpaca.policy import LIVE_URL, PAPER_URL, Keys, require_keys
from finagent.domain.errors import BadInput
from finagent.policies import alpaca_policies, check
from finagent.settings import alpaca_keys, api_token, load_settings, secrets_in_use

ALPACA = ("broker.kind=alpaca", "broker.account_id=PA1")
PAPER = (*ALPACA, "orchestrate.mode=paper", "market_data.source=alpaca", "market_data.symbols=[AAPL]")
LIVE = (*PAPER, "orchestrate.mode=live", "broker.account_id=123456789")


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


def test_a_key_file_that_everybody_may_read_opens_no_real_money(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
        (tmp_path / name.lower()).write_text("AKFILE")
        (tmp_path / name.lower()).chmod(0o644)
    monkeypatch.setenv("FINAGENT_LIVE_ACCOUNT", "123456789")
    where = f"alpaca.secrets_directory={tmp_path}"
    assert alpaca_keys(load_settings(None, (*PAPER, where))) == ("AKFILE", "AKFILE")
    with pytest.raises(BadInput, match=r"everybody may read it: chmod 600 .*apca_api_key_id"):
        alpaca_keys(load_settings(None, (*LIVE, where)))
    for file in tmp_path.iterdir():
        file.chmod(0o600)
    assert alpaca_keys(load_settings(None, (*LIVE, where))) == ("AKFILE", "AKFILE")


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


def test_paper_is_the_default_and_its_host_is_not_that_of_real_money() -> None:
    assert not load_settings(None).on_wall_time
    for named, url in ((PAPER, PAPER_URL), (LIVE, LIVE_URL)):
        account, rest = alpaca_policies(load_settings(None, named))
        assert (rest.url, account.live) == (url, url == LIVE_URL)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ((*LIVE, "broker.account_id=PA1"), "broker.account_id"),
        ((*LIVE, f"alpaca.url={PAPER_URL}"), "alpaca.url"),
        ((*LIVE, "alpaca.url=http://127.0.0.1:8322"), "alpaca.url"),
        ((*LIVE, "wall_time.pace=60"), "wall_time.pace"),
        ((*PAPER, "broker.account_id=123456789"), "broker.account_id"),
        ((*PAPER, f"alpaca.url={LIVE_URL}"), "alpaca.url"),
        ((*PAPER, "broker.kind=simulated"), "orchestrate.mode"),
        ((*PAPER, "market_data.source=sample"), "orchestrate.mode"),
        ((*ALPACA, "market_data.source=alpaca", "market_data.symbols=[AAPL]"), "market_data.source"),
    ],
)
def test_mode_host_account_and_source_go_together_or_nothing_starts(overrides: tuple[str, ...], named: str) -> None:
    for good in (PAPER, LIVE):
        check(load_settings(None, good))
    with pytest.raises(BadInput, match=named):
        check(load_settings(None, overrides))


@pytest.mark.parametrize("acknowledged", [None, "", "123456788", "PA1", "yes"])
def test_real_money_wants_its_account_named_twice(acknowledged: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APCA_API_KEY_ID", "AKREAL")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "planted-secret")
    monkeypatch.delenv("FINAGENT_LIVE_ACCOUNT", raising=False)
    if acknowledged is not None:
        monkeypatch.setenv("FINAGENT_LIVE_ACCOUNT", acknowledged)
    with pytest.raises(BadInput, match="FINAGENT_LIVE_ACCOUNT=123456789"):
        alpaca_keys(load_settings(None, LIVE))
    monkeypatch.setenv("FINAGENT_LIVE_ACCOUNT", "123456789")
    assert alpaca_keys(load_settings(None, LIVE))[0] == "AKREAL"
    monkeypatch.setenv("FINAGENT_LIVE_ACCOUNT", "")
    assert alpaca_keys(load_settings(None, PAPER))[0] == "AKREAL"


@pytest.mark.parametrize(("key_id", "live"), [("PKPAPER", True), ("AKREAL", False)])
def test_keys_of_the_other_kind_of_account_are_refused(key_id: str, live: bool) -> None:
    require_keys(Keys(key_id, "planted-secret"), live=not live)
    with pytest.raises(BadInput, match="APCA_API_KEY_ID") as refused:
        require_keys(Keys(key_id, "planted-secret"), live=live)
    assert key_id not in str(refused.value)


def test_a_token_that_could_be_guessed_opens_nothing_and_is_kept_out_of_logs_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(None, (f"http.token_file={tmp_path / 'token'}",))
    monkeypatch.delenv("FINAGENT_API_TOKEN", raising=False)
    assert (api_token(settings), secrets_in_use(settings)) == ("", ())
    (tmp_path / "token").write_text("planted-token-of-a-file\n")
    assert api_token(settings) == "planted-token-of-a-file"
    monkeypatch.setenv("FINAGENT_API_TOKEN", "short")
    with pytest.raises(BadInput, match="FINAGENT_API_TOKEN") as refused:
        api_token(settings)
    assert "short" not in str(refused.value)
    assert secrets_in_use(settings) == ("short",)
