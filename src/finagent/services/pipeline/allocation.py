"""Scales the risk of the trades that one scan may lead to, by what was known of their symbols before the session."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from finagent.domain.gap import Direction
from finagent.domain.jobs import Job
from finagent.domain.sessions import Session
from finagent.quant.risk.allocation import AllocationPolicy, known_columns, risk_multiples
from finagent.services.market_data.return_history import ReturnHistory


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


@dataclass(frozen=True, slots=True)
class Allocator:
    """Of trades that may be planned: a short one is none while short selling is off. History that cannot be had now is none."""

    returns: ReturnHistory
    policy: AllocationPolicy
    short_selling: bool

    async def shares(self, session: Session, found: Sequence[tuple[str, Direction]]) -> dict[str, RiskShare]:
        """By symbol, from the days before the session alone."""
        ways = {symbol: 1.0 if way is Direction.UP else -1.0 for symbol, way in found}
        names = [symbol for symbol, sign in ways.items() if sign > 0 or self.short_selling]
        if not names:
            return {}
        columns = [self.returns.symbols.index(name) for name in names]
        recent = (await self.returns.before(session)).last(self.policy.days)
        earned = recent.returns[:, columns] * np.asarray([ways[name] for name in names])
        known = dict(zip(names, known_columns(earned, self.policy.days_min), strict=True))
        multiples = risk_multiples(names, earned, self.policy)
        of = f"{self.policy.method.value} of {len(names)}"
        unknown = f"{of}, fewer than {self.policy.days_min} days of history"
        return {name: RiskShare(multiples[name], of if known[name] else unknown) for name in names}
