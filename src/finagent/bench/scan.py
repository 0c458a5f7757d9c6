"""`finagent bench scan`: 10,000 symbols from resident columns to the ranked best 50, and a reason code for every other symbol."""

from datetime import UTC, date, datetime
from pathlib import Path
from statistics import median

import numpy as np

from finagent.bench.contest import Contest, Contestant, Row, interleaved, spread
from finagent.bench.peers import FOLDER, PeerScript
from finagent.domain.bars import PriorFacts
from finagent.domain.errors import InvariantViolated
from finagent.domain.sessions import Session
from finagent.quant.features.feature_state import FeatureState
from finagent.quant.features.gap_scan import ScanRules, scan

SCRIPT = FOLDER / "scan" / "bench_scan.py"
SYMBOLS = 10_000
CALLS = 31  # as many as the peers' script takes its own median of
MINUTE = 5


def scan_contest(repeats: int, script: Path = SCRIPT) -> Contest:
    """Ours and the peers on the same arrays under the same rules; raises InvariantViolated when their best 50 differ."""
    peers = PeerScript(script, (str(SYMBOLS),))
    ours = Contestant("ours", ScanOfPeerData(peers).best)
    expected = ours.run()
    for peer in peers.contestants:
        if peer.run() != expected:
            raise InvariantViolated(f"{peer.name} finds other symbols than ours: the contest would compare different work")
    floor = peers.floors[0]
    seconds = interleaved([ours, floor, *peers.contestants], repeats, CALLS)
    microseconds = {name: median(values) * 1e6 for name, values in seconds.items()}
    row = Row(
        figure=f"scan of {SYMBOLS:,} symbols to the ranked best 50; ours with a reason code for every other symbol",
        unit="us",
        better="lower",
        ours=microseconds["ours"],
        floor=microseconds[floor.name],
        peers={peer.name: microseconds[peer.name] for peer in peers.contestants},
        repeats=repeats,
        spread=spread(seconds["ours"]),
    )
    return Contest((row,), tuple(peers.absent))


class ScanOfPeerData:
    """Our scan over the arrays of the peers' script, under rules that let the same symbols pass.

    The script's five filters become our rules: gap, relative volume and least price as they are; its least volume stands where
    our dollar volume is; its highest price, a rule we do not have, marks those symbols stale, which is a rule we evaluate.
    """

    def __init__(self, peers: PeerScript) -> None:
        price, previous, volume, average = (peers.data[name] for name in ("op", "pc", "vol", "av"))
        symbols = tuple(peers.data["sym"])
        opens_at = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
        session = Session(date(2024, 1, 2), opens_at, opens_at.replace(hour=21, minute=0))
        self.state = FeatureState(symbols)
        self.state.reset(session)
        self.state.minute = MINUTE
        for column in (self.state.open, self.state.high, self.state.low, self.state.last):
            column[:] = price
        self.state.cumulative_volume[:] = volume
        self.state.last_minute[:] = np.where(price < 400, MINUTE, 0)
        self.prior = PriorFacts(session, symbols, previous, volume, (MINUTE,), average[np.newaxis, :], {})
        self.rules = ScanRules(
            gap_fraction_min=0.03,
            price_usd_min=5.0,
            dollar_volume_usd_min=1e5,
            relative_volume_min=1.5,
            price_age_minutes_max=1,
            bad_bars_max=0,
            candidates_max=int(peers.data["K"]),
        )

    def best(self) -> list[str]:
        """The ranked best, as the peers return them; the reasons of all others are in the same result."""
        result = scan(self.state, self.prior, MINUTE, self.rules)
        return [self.state.symbols[column] for column in result.ranked.columns.tolist()]
