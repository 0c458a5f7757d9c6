"""Scales the risk of the trades that one scan may lead to, by what was known of their symbols before the session."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import structlog

from finagent.domain.bars import Floats
from finagent.domain.errors import Transient
from finagent.domain.gap import Direction
from finagent.domain.jobs import Job
from finagent.domain.ports.market_data import MarketDataPort
from finagent.domain.sessions import Session
from finagent.quant.risk.allocation import AllocationPolicy, known_columns, risk_multiples
from finagent.services.market_data.daily_features import anchor
from finagent.services.market_data.daily_returns import daily_returns

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RiskShare:
    """What a plan risks, as a multiple of `plan.risk_fraction`, and why. It travels with the candidate's jobs: what the scan has
    committed is what is planned, whoever plans it and when."""

    multiple: Decimal
    reason: str

    def payload(self) -> dict[str, str]:
        return {"risk_multiple": str(self.multiple), "allocation": self.reason}


def share_of(payload: dict[str, Any]) -> dict[str, Any]:
    """The part of a job's payload that is a RiskShare; empty where there is none."""
    return {name: payload[name] for name in ("risk_multiple", "allocation") if name in payload}


def risk_share(job: Job) -> RiskShare | None:
    """The share that travels with a job; None: an equal one."""
    told = share_of(job.payload)
    return RiskShare(Decimal(told["risk_multiple"]), told["allocation"]) if told else None


@dataclass(slots=True)
class Allocator:
    """Of trades that may be planned: a short one is none while short selling is off. History that cannot be had now is none; the
    scans of one session share one answer."""

    market: MarketDataPort
    policy: AllocationPolicy
    hole_sessions_max: int
    short_selling: bool
    _asked: tuple[Session, Floats] | None = None

    async def shares(self, session: Session, found: Sequence[tuple[str, Direction]]) -> dict[str, RiskShare]:
        """By symbol, from the days before the session alone."""
        ways = {symbol: 1.0 if way is Direction.UP else -1.0 for symbol, way in found}
        names = [symbol for symbol, sign in ways.items() if sign > 0 or self.short_selling]
        if not names:
            return {}
        columns = [self.market.symbols.index(name) for name in names]
        earned = (await self._returns(session))[:, columns] * np.asarray([ways[name] for name in names])
        known = dict(zip(names, known_columns(earned, self.policy.days_min), strict=True))
        multiples = risk_multiples(names, earned, self.policy)
        of = f"{self.policy.method.value} of {len(names)}"
        unknown = f"{of}, fewer than {self.policy.days_min} days of history"
        return {name: RiskShare(multiples[name], of if known[name] else unknown) for name in names}

    async def _returns(self, session: Session) -> Floats:
        """Of all symbols [days, symbols]; no day where the source has no history now."""
        if self._asked is None or self._asked[0] != session:
            try:
                history = await self.market.daily_history(session, anchor(session))
            except Transient as error:
                log.warning("allocation_without_history", session=session.date.isoformat(), error=str(error))
                return np.empty((0, len(self.market.symbols)))
            self._asked = (session, daily_returns(history, self.hole_sessions_max)[-self.policy.days :])
        return self._asked[1]
