"""The agent at Alpaca: through the real SDK, over HTTP, a replayed day ends as it does at the broker inside the process."""

from pathlib import Path

import pytest
from tests.integration.test_application import stop_after

from finagent.bootstrap import build_alpaca_simulator, build_application, build_market
from finagent.domain.errors import BadInput
from finagent.domain.orders import Fill
from finagent.services.reporting.canonical import outcome_hash
from finagent.settings import Settings, load_settings

DAY = (
    "http.enabled=false",
    "market_data.first_session=2008-10-09",
    "market_data.last_session=2008-10-09",
    "broker.partial_fill_rate=0.4",
    "broker.account_id=PA1",
    "broker.stop_entry_brackets=false",
)


def settings_of(folder: Path, *more: str) -> Settings:
    return load_settings(overrides=(f"storage.directory={folder}", *DAY, *more))


def at_alpaca(url: str) -> tuple[str, ...]:
    return ("broker.kind=alpaca", f"alpaca.url={url}", "alpaca.settle_seconds=0")  # a broker that waits for us


async def replayed(settings: Settings, *stops: int) -> tuple[str, int]:
    """Outcome and fills; first stopped after so many commits of a start, and started again."""
    for commits in stops:
        async with build_application(settings) as application:
            stop_after(application, commits)
            assert not await application.run()
    async with build_application(settings) as application:
        assert await application.run()
        return outcome_hash(application.reads), application.reads.count(Fill)


async def test_a_day_ends_as_at_the_embedded_broker_also_when_the_agent_is_stopped_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = settings_of(
        tmp_path / "unused",
        f"alpaca_simulator.directory={tmp_path / 'alpaca'}",
        *("alpaca_simulator.port=0", "alpaca_simulator.pace=0", "alpaca_simulator.requests_per_minute=0"),
    )
    monkeypatch.setenv("APCA_API_KEY_ID", there.alpaca_simulator.key_id)
    monkeypatch.setenv("APCA_API_SECRET_KEY", there.alpaca_simulator.secret)
    reference = await replayed(settings_of(tmp_path / "embedded"))
    async with build_alpaca_simulator(there, build_market(there)) as url:
        assert await replayed(settings_of(tmp_path / "agent", *at_alpaca(url)), 11) == reference
    assert reference[1] >= 2, "the day has to trade"


async def test_a_replay_never_reaches_a_broker_whose_market_it_cannot_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APCA_API_KEY_ID", "PK1")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "planted-secret")
    with pytest.raises(BadInput, match=r"alpaca\.url"):
        async with build_application(settings_of(tmp_path, "broker.kind=alpaca")):
            pass
