"""The account as committed: start cash and fills, nothing else."""

from decimal import Decimal
from typing import Any

import pytest

from finagent.domain.errors import InvariantViolated
from finagent.domain.portfolio import Position
from finagent.services.portfolio import ledger, portfolio


async def test_cash_is_start_cash_and_what_the_fills_left(desk: Any) -> None:
    at = desk.clock.now()
    await desk.commit(
        Position("AAPL", 0, Decimal("120.50"), Decimal("0.70"), at), Position("IBM", 10, Decimal(-1_040), Decimal("0.35"), at)
    )
    holdings = portfolio(desk.reads)

    assert holdings.cash == Decimal("99079.45")
    assert [position.symbol for position in holdings.open] == ["IBM"]
    assert holdings.equity({"IBM": Decimal(105)}) == Decimal("100129.45")


async def test_an_account_that_never_traded_holds_its_start_cash(desk: Any) -> None:
    assert (portfolio(desk.reads).cash, portfolio(desk.reads).open) == (Decimal(100_000), ())
    assert ledger(desk.reads).account == "SIM-1"


async def test_a_store_without_an_identity_is_no_account(tmp_path: Any) -> None:
    from finagent.adapters.database.engine import WriterPolicy
    from finagent.adapters.database.migrate import upgrade
    from finagent.adapters.database.reader import SqliteReads
    from finagent.services.failpoints import unarmed

    upgrade(tmp_path / "finagent.db", WriterPolicy(1, 1000, 500, 0, 4096), unarmed)
    reads = SqliteReads(tmp_path / "finagent.db")
    with pytest.raises(InvariantViolated, match="no ledger identity"):
        portfolio(reads)
    reads.close()
