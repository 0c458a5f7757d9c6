"""`finagent bench features`: one bar of many symbols, a batch over history, memory, and the time to a first scan."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np

from finagent.bench.contest import AtLeast, Below, Contest, Contestant, Goal, Row, interleaved, spread
from finagent.bench.peers import FOLDER, PeerScript
from finagent.domain.errors import Unavailable
from finagent.quant.features.bar_features import BarFeatures, over_history
from finagent.quant.features.bar_windows import BarRows
from finagent.quant.features.catalogue import BARS

SCRIPT = FOLDER / "features" / "bench_features.py"
CALLS = 9
WARM = 200  # bars before anything is timed: every feature is known by then
BATCH_BARS, BATCH_SYMBOLS = 256, 500
BATCH = "TA-Lib batch"
FIRST_SCAN = "from finagent.bench.features import first_scan; print(first_scan())"


def features_contest(repeats: int, script: Path = SCRIPT) -> Contest:
    """Ours and the peers, each on its own features: what is compared is the time a feature."""
    small, large = _Stream(200), _Stream(5000)
    state_bytes = small.bytes_a_symbol
    peers = {symbols: PeerScript(script, (str(symbols), str(state_bytes))) for symbols in (200, 5000)}
    rows = (
        *_one_bar(small, peers[200], repeats, (AtLeast(100),)),
        *_one_bar(large, peers[5000], repeats, (AtLeast(300),)),
        *_batch(peers[200], repeats),
        _figure("state a symbol", "KB", state_bytes / 1000, 6.0),
        _first_scan(repeats),
    )
    return Contest(rows, tuple(peers[200].absent))


def bars_of(symbols: int, bars: int) -> Iterator[BarRows]:
    """A random walk, the same for the same numbers."""
    chance = np.random.Generator(np.random.Philox(key=7))
    close, usable = np.full(symbols, 100.0), np.ones(symbols, dtype=np.bool_)
    for _ in range(bars):
        close = close * np.exp(chance.standard_normal(symbols) * 0.001)
        open_ = close * np.exp(chance.standard_normal(symbols) * 0.0005)
        high = np.maximum(open_, close) * (1 + np.abs(chance.standard_normal(symbols)) * 0.0005)
        low = np.minimum(open_, close) * (1 - np.abs(chance.standard_normal(symbols)) * 0.0005)
        yield BarRows(open_, high, low, close, chance.integers(100, 100_000, symbols).astype(np.float64), usable)


class _Stream:
    """Features that have seen enough bars, and bars to come."""

    def __init__(self, symbols: int) -> None:
        self.symbols = symbols
        self._features = BarFeatures(symbols, index=None, hole_bars_max=5)
        bars = list(bars_of(symbols, WARM + 16))
        for row in bars[:WARM]:
            self._features.push(row)
        self._next, self._at = bars[WARM:], 0

    @property
    def bytes_a_symbol(self) -> int:
        return sum(array.nbytes for array in self._features.bars.state().values()) // self.symbols

    def update(self) -> None:
        """One bar of every symbol."""
        self._features.update(self._next[self._at % len(self._next)])
        self._at += 1


def _one_bar(stream: _Stream, peers: PeerScript, repeats: int, goals: tuple[Goal, ...]) -> Iterator[Row]:
    ours, floor = Contestant("ours", stream.update), peers.floors[0]
    theirs = [peer for peer in peers.contestants if peer.name != BATCH]
    seconds = interleaved([ours, floor, *theirs], repeats, CALLS)
    features, covered = peers.data["NF"], peers.data["SYMBOLS"]
    mine = median(seconds["ours"]) / stream.symbols
    figure = f"one bar of {stream.symbols:,} symbols"
    yield Row(
        figure=f"{figure}, a symbol and feature ({len(BARS.features)} of ours)",
        unit="ns",
        better="lower",
        ours=mine / len(BARS.features) * 1e9,
        floor=None,
        peers={peer.name: median(seconds[peer.name]) / covered[peer.name] / features[peer.name] * 1e9 for peer in theirs},
        repeats=repeats,
        spread=spread(seconds["ours"]),
        goals=goals,
    )
    yield Row(
        figure=f"{figure}, a symbol; the limit copies its state once",
        unit="us",
        better="lower",
        ours=mine * 1e6,
        floor=median(seconds[floor.name]) / stream.symbols * 1e6,
        peers={},
        repeats=repeats,
        spread=spread(seconds["ours"]),
        goals=(Below(1.5),) if stream.symbols == 200 else (),
    )


def _batch(peers: PeerScript, repeats: int) -> Iterator[Row]:
    features = len(BARS.features)
    contestants = [peer for peer in peers.contestants if peer.name == BATCH]
    for symbols in (BATCH_SYMBOLS, 1):
        history = list(bars_of(symbols, BATCH_BARS))

        def run(history: list[BarRows] = history, symbols: int = symbols) -> None:
            over_history(BarFeatures(symbols, index=None, hole_bars_max=5), history)

        seconds = interleaved([Contestant("ours", run), *contestants], repeats, 1, warm_ups=1)
        theirs = {
            peer.name: median(seconds[peer.name]) / peers.data["SYMBOLS"][BATCH] / peers.data["NF"][BATCH] * 1e9
            for peer in contestants
        }
        yield Row(
            figure=f"history of {BATCH_BARS} bars of {symbols} symbol{'s' if symbols > 1 else ''}, a bar and feature",
            unit="ns",
            better="lower",
            ours=median(seconds["ours"]) / symbols / BATCH_BARS / features * 1e9,
            floor=None,
            peers=theirs,
            repeats=repeats,
            spread=spread(seconds["ours"]),
            goals=(AtLeast(1),) if symbols > 1 else (),
        )


def _figure(figure: str, unit: str, value: float, limit: float) -> Row:
    return Row(figure, unit, "lower", value, None, {}, 1, 0.0, (Below(limit),))


def _first_scan(repeats: int) -> Row:
    """In processes of their own, whose imports are not counted."""
    seconds = [_in_a_process() for _ in range(repeats)]
    return Row(
        figure="a cold process, from its imports to the features of a first scan of the sample",
        unit="ms",
        better="lower",
        ours=median(seconds) * 1e3,
        floor=None,
        peers={},
        repeats=repeats,
        spread=spread(seconds),
        goals=(Below(1000.0),),
    )


def _in_a_process() -> float:
    done = subprocess.run([sys.executable, "-c", FIRST_SCAN], capture_output=True, text=True, check=False)  # noqa: S603 our own code
    if done.returncode:
        raise Unavailable(f"the process that scans failed: {done.stderr.strip()[-300:]}")
    return float(done.stdout)


def first_scan() -> float:
    """Seconds from here to the feature rows of the first scan of the sample."""
    from finagent.adapters.clock import VirtualClock
    from finagent.bootstrap import build_feature_cache, build_market
    from finagent.policies import scan_rules
    from finagent.services.market_data.feed import Feed
    from finagent.settings import load_settings

    async def scanned() -> None:
        settings = load_settings()
        market = build_market(settings)
        session = market.sessions()[0]
        clock = VirtualClock(session.instant_of(5))
        days = build_feature_cache(settings, market, None)
        feed = Feed(market, clock, scan_rules(settings), days)
        await feed.open_session(session, (5,))
        feed.advance()
        found = feed.scan()
        await feed.daily_features()
        await feed.candidate_rows(found)

    began = time.perf_counter()
    asyncio.run(scanned())
    return time.perf_counter() - began
